//! stun
