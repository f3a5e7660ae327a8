//! The data path's core in virtual time.

/// Machines and what happens to them; whatever it is, what the oracle demands must be so.
pub fn simulation(data: &[u8]) {
    if let Some(broken) = sim::run(data).broken {
        panic!("{broken}\n{}", sim::corpus::write(data, &broken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_seeds_and_changed_ones() {
        for seed in 0..60 {
            let mut input = sim::seeds::input(1 << 40 | seed);
            simulation(&input);
            let at = seed as usize % input.len();
            input[at] = input[at].wrapping_add(1);
            simulation(&input);
        }
    }
}
