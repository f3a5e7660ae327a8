//! Smaller inputs that show the same fault.

/// The bytes of one event.
const EVENT: usize = 4;
/// Simulations that shrinking may take.
const MOST: u32 = 2_000;

/// Leaves out events and bytes, and lessens bytes, while `breaks` holds.
pub fn shrink(input: &[u8], mut breaks: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut left = MOST;
    loop {
        let before = best.clone();
        for size in [EVENT * 4, EVENT * 2, EVENT, 1] {
            let mut at = best.len().saturating_sub(size);
            loop {
                let mut smaller = best.clone();
                smaller.drain(at..(at + size).min(best.len()));
                left = left.saturating_sub(1);
                if left > 0 && smaller.len() < best.len() && breaks(&smaller) {
                    best = smaller;
                }
                if at == 0 {
                    break;
                }
                at = at.saturating_sub(if size == 1 { 1 } else { EVENT.min(size) }).min(best.len());
            }
        }
        for at in 0..best.len() {
            for lesser in [0, best[at] / 2, best[at].saturating_sub(1)] {
                let mut smaller = best.clone();
                smaller[at] = lesser;
                left = left.saturating_sub(1);
                if left > 0 && lesser < best[at] && breaks(&smaller) {
                    best = smaller;
                }
            }
        }
        if best == before || left == 0 {
            return best;
        }
    }
}
