//! `vpnd device`: a plain WireGuard interface, under `wg` and `wg-quick`, and beside other implementations.

mod commands;
mod house;
mod interop;
mod workers;
