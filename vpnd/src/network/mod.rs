//! One actor per network.
