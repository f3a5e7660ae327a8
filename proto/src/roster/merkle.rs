//! A hash tree over the plaintext entries, in the order of their ids, shaped as RFC 6962, section 2.1 shapes its own:
//! the left subtree of n leaves holds the greatest power of two below n. The header carries the root, so one entry
//! can be proved to be in the roster without showing another.

use crate::{
    roster::entry::{EntryId, MAX_ENTRIES},
    seal::hash,
    wire::{Reader, Wire, WireError, Writer},
};

/// Hashes in the longest proof: the depth of a tree of [`MAX_ENTRIES`] leaves.
const MAX_PATH: usize = usize::BITS as usize - MAX_ENTRIES.leading_zeros() as usize;

/// The hashes that lead from one leaf to the root.
#[derive(Clone, PartialEq, Eq)]
pub struct MerkleProof {
    /// The leaf's place among all.
    index: u32,
    /// From the leaf's sibling upwards.
    path: Vec<[u8; 32]>,
}

/// The leaf of one version of one entry.
pub(super) fn leaf(id: &EntryId, version: u64, plain: &[u8]) -> [u8; 32] {
    hash("roster leaf", &[&id.0, &version.to_be_bytes(), plain])
}

/// The root over all leaves.
pub(super) fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => hash("roster empty", &[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The proof that the leaf at `index` is among `leaves`.
///
/// # Panics
/// If there is no such leaf.
pub(super) fn prove(leaves: &[[u8; 32]], index: usize) -> MerkleProof {
    let mut path = Vec::new();
    let (mut rest, mut at) = (leaves, index);
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        if at < left.len() {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            at -= left.len();
            rest = right;
        }
    }
    assert!(!rest.is_empty(), "no leaf to prove");
    path.reverse();
    MerkleProof { index: index as u32, path }
}

impl MerkleProof {
    /// Whether `leaf` is one of the `count` leaves under `root`.
    pub(super) fn holds(&self, root: &[u8; 32], count: u32, leaf: [u8; 32]) -> bool {
        if self.index >= count {
            return false;
        }
        // Which side the sibling is on, from the root downwards.
        let mut lefts = Vec::new();
        let (mut size, mut at) = (count as usize, self.index as usize);
        while size > 1 {
            let left = split(size);
            let in_left = at < left;
            lefts.push(in_left);
            if in_left {
                size = left;
            } else {
                at -= left;
                size -= left;
            }
        }
        if lefts.len() != self.path.len() {
            return false;
        }
        let top = self.path.iter().zip(lefts.iter().rev()).fold(leaf, |below, (sibling, in_left)| {
            if *in_left { node(&below, sibling) } else { node(sibling, &below) }
        });
        top == *root
    }
}

/// Index, list of hashes.
impl Wire for MerkleProof {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.index);
        w.list(&self.path, |w, hash| w.raw(hash));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { index: r.u32()?, path: r.list(MAX_PATH, Reader::array)? })
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    hash("roster node", &[left, right])
}

/// The greatest power of two below `n`, which is at least 2.
fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u8) -> Vec<[u8; 32]> {
        (0..n).map(|i| [i; 32]).collect()
    }

    #[test]
    fn the_tree_is_shaped_as_rfc_6962_shapes_it() {
        let l = leaves(5);
        let left = node(&node(&l[0], &l[1]), &node(&l[2], &l[3]));
        assert_eq!(root(&l), node(&left, &l[4]));
        assert_eq!(root(&l[..3]), node(&node(&l[0], &l[1]), &l[2]));
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_no_other() {
        for n in 1..40 {
            let l = leaves(n);
            let top = root(&l);
            for i in 0..usize::from(n) {
                let proof = MerkleProof::from_bytes(&prove(&l, i).to_bytes()).unwrap();
                assert!(proof.holds(&top, n.into(), l[i]));
                assert!(!proof.holds(&top, n.into(), [99; 32]));
                assert!(!proof.holds(&[77; 32], n.into(), l[i]));
                assert!(!proof.holds(&top, u32::from(n) * 2, l[i]));
                let moved = MerkleProof { index: proof.index ^ 1, path: proof.path };
                assert!(n == 1 || !moved.holds(&top, n.into(), l[i]));
            }
        }
    }

    #[test]
    fn the_longest_proof_fits_its_limit() {
        let l: Vec<_> = (0..MAX_ENTRIES).map(|i| hash("test leaf", &[&i.to_be_bytes()])).collect();
        assert!(MerkleProof::from_bytes(&prove(&l, 0).to_bytes()).is_ok());
    }
}
