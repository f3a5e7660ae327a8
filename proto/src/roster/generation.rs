//! Signer generations: the only thing in a network that has a past.
//!
//! Generation 1 of a recovery count is signed by the root, each later one by enough signers of the one before it, so
//! whoever knows the network's name can walk from the root keys to the present signers. The chain is kept whole; a
//! higher recovery count starts a fresh one, which only the root can sign.

use ed25519_dalek::SigningKey;

use crate::{
    identity::{NetworkId, RootKeys, RootPublic, sign, verify},
    roster::{entry::skip_optional, error::RosterError},
    seal::hash,
    wire::{Reader, Wire, WireError, Writer},
};

/// Signers of one generation, at most.
pub const MAX_SIGNERS: usize = 32;
/// Generations under one recovery count, at most; a recovery starts anew.
pub const MAX_GENERATIONS: usize = 1024;

const VERSION: u8 = 1;
const MAX_GENERATION: usize = 4096;

/// Who may sign headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Generation {
    /// The network.
    pub network: NetworkId,
    /// The recovery count.
    pub recovery: u64,
    /// From 1.
    pub number: u64,
    /// The hash of the generation before; zeros in generation 1.
    pub previous: [u8; 32],
    /// How many signatures a header and the next generation need; 1 for now.
    pub threshold: u8,
    /// The signers' identity keys.
    pub signers: Vec<[u8; 32]>,
}

/// A generation as it was signed.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedGeneration {
    body: Vec<u8>,
    signatures: Signatures,
    generation: Generation,
}

/// All generations of the present recovery count, and the root keys that the first is signed by.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    /// The network is named by their hash.
    pub root: RootPublic,
    pub(super) generations: Vec<SignedGeneration>,
}

/// Signatures over one body, each with the key that made it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Signatures(Vec<([u8; 32], [u8; 64])>);

impl SignedGeneration {
    /// Signs as the root: the first generation of a recovery count.
    pub(super) fn by_root(generation: Generation, root: &RootKeys) -> Self {
        Self::sign(generation, root.signing())
    }

    /// Signs as a signer of the generation before.
    pub(super) fn sign(generation: Generation, key: &SigningKey) -> Self {
        let body = generation.to_bytes();
        let signatures = Signatures::one(key, "generation", &body);
        Self { body, signatures, generation }
    }

    /// What was signed.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// By which the next generation names this one.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash("generation", &[&self.body])
    }
}

impl Chain {
    /// The chain of a new recovery count.
    pub(super) fn start(root: &RootKeys, recovery: u64, signers: Vec<[u8; 32]>) -> Self {
        let public = root.public();
        let network = public.network_id();
        let first = Generation { network, recovery, number: 1, previous: [0; 32], threshold: 1, signers };
        Self { root: public, generations: vec![SignedGeneration::by_root(first, root)] }
    }

    /// This chain with one more generation, signed by `key` of the present one.
    pub(super) fn followed_by(&self, signers: Vec<[u8; 32]>, threshold: u8, key: &SigningKey) -> Self {
        let present = self.current();
        let next = Generation {
            network: present.network,
            recovery: present.recovery,
            number: present.number + 1,
            previous: self.last().hash(),
            threshold,
            signers,
        };
        let mut chain = self.clone();
        chain.generations.push(SignedGeneration::sign(next, key));
        chain
    }

    /// The present generation.
    #[must_use]
    pub fn current(&self) -> &Generation {
        &self.last().generation
    }

    /// All generations, oldest first.
    #[must_use]
    pub fn generations(&self) -> &[SignedGeneration] {
        &self.generations
    }

    fn last(&self) -> &SignedGeneration {
        self.generations.last().expect("a chain is never read or made empty")
    }

    /// Walks from the network's name over the root keys to the present generation.
    ///
    /// # Errors
    /// [`RosterError::OtherNetwork`], [`RosterError::Unsigned`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), RosterError> {
        if self.root.network_id() != *network {
            return Err(RosterError::OtherNetwork);
        }
        let recovery = self.current().recovery;
        let mut before: Option<&SignedGeneration> = None;
        for (signed, number) in self.generations.iter().zip(1..) {
            let generation = &signed.generation;
            if generation.network != *network {
                return Err(RosterError::OtherNetwork);
            }
            let previous = before.map_or([0; 32], SignedGeneration::hash);
            if generation.recovery != recovery
                || generation.number != number
                || generation.previous != previous
            {
                return Err(RosterError::Unsigned);
            }
            let enough = match before {
                None => signed.signatures.count("generation", &signed.body, &[self.root.signing]) == 1,
                Some(before) => before.generation.signed(&signed.signatures, "generation", &signed.body),
            };
            if !enough {
                return Err(RosterError::Unsigned);
            }
            before = Some(signed);
        }
        Ok(())
    }

    /// Whether both chains have the same recovery count but go separate ways.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        self.current().recovery == other.current().recovery
            && self.generations.iter().zip(&other.generations).any(|(a, b)| a.body != b.body)
    }
}

impl Generation {
    /// Whether `identity` is a signer.
    #[must_use]
    pub fn is_signer(&self, identity: &[u8; 32]) -> bool {
        self.signers.contains(identity)
    }

    /// Whether enough signers of this generation signed `body`.
    pub(super) fn signed(&self, signatures: &Signatures, what: &str, body: &[u8]) -> bool {
        signatures.count(what, body, &self.signers) >= usize::from(self.threshold)
    }
}

impl Signatures {
    pub(super) fn one(key: &SigningKey, what: &str, body: &[u8]) -> Self {
        Self(vec![(key.verifying_key().to_bytes(), sign(key, what, body))])
    }

    /// How many of `keys` signed `body`.
    fn count(&self, what: &str, body: &[u8], keys: &[[u8; 32]]) -> usize {
        keys.iter()
            .filter(|key| {
                self.0.iter().any(|(by, signature)| by == *key && verify(key, what, body, signature))
            })
            .count()
    }
}

/// Version, network, recovery count, number, previous, threshold, signers, optional fields.
impl Wire for Generation {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        self.network.encode(w);
        w.u64(self.recovery);
        w.u64(self.number);
        w.raw(&self.previous);
        w.u8(self.threshold);
        w.list(&self.signers, |w, signer| w.raw(signer));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let generation = Self {
            network: NetworkId::decode(r)?,
            recovery: r.u64()?,
            number: r.u64()?,
            previous: r.array()?,
            threshold: r.u8()?,
            signers: r.list(MAX_SIGNERS, Reader::array)?,
        };
        skip_optional(r)?;
        let mut distinct = generation.signers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != generation.signers.len() {
            return Err(WireError::Invalid("signers"));
        }
        if !(1..=generation.signers.len()).contains(&usize::from(generation.threshold)) {
            return Err(WireError::Invalid("threshold"));
        }
        Ok(generation)
    }
}

/// Body as a byte string, signatures.
impl Wire for SignedGeneration {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.body);
        self.signatures.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let body = r.bytes(MAX_GENERATION)?.to_vec();
        let generation = Generation::from_bytes(&body)?;
        Ok(Self { body, signatures: Signatures::decode(r)?, generation })
    }
}

/// Root keys, generations.
impl Wire for Chain {
    fn encode(&self, w: &mut Writer) {
        self.root.encode(w);
        w.list(&self.generations, |w, generation| generation.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let root = RootPublic::decode(r)?;
        let generations = r.list(MAX_GENERATIONS, SignedGeneration::decode)?;
        if generations.is_empty() {
            return Err(WireError::Invalid("chain"));
        }
        Ok(Self { root, generations })
    }
}

/// List of (key, signature).
impl Wire for Signatures {
    fn encode(&self, w: &mut Writer) {
        w.list(&self.0, |w, (key, signature)| {
            w.raw(key);
            w.raw(signature);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.list(MAX_SIGNERS, |r| Ok((r.array()?, r.array()?)))?))
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::identity::MachineKeys;

    struct Cast {
        root: RootKeys,
        network: NetworkId,
        a: MachineKeys,
        b: MachineKeys,
        chain: Chain,
    }

    fn cast() -> Cast {
        let (root, a, b) = (
            RootKeys::generate(&mut OsRng),
            MachineKeys::generate(&mut OsRng),
            MachineKeys::generate(&mut OsRng),
        );
        let chain = Chain::start(&root, 0, vec![a.identity_public()]);
        Cast { network: root.public().network_id(), root, a, b, chain }
    }

    #[test]
    fn a_chain_signed_link_by_link_is_accepted_and_reads_back() {
        let c = cast();
        let chain =
            c.chain.followed_by(vec![c.a.identity_public(), c.b.identity_public()], 1, c.a.identity());
        let chain = chain.followed_by(vec![c.b.identity_public()], 1, c.b.identity());
        assert_eq!(chain.verify(&c.network), Ok(()));
        assert!(Chain::from_bytes(&chain.to_bytes()).unwrap() == chain);
        assert!(chain.current().is_signer(&c.b.identity_public()));
        assert!(!chain.current().is_signer(&c.a.identity_public()));
    }

    #[test]
    fn a_chain_of_another_root_is_another_network() {
        let c = cast();
        let mut chain = c.chain.clone();
        chain.root = RootKeys::generate(&mut OsRng).public();
        assert_eq!(chain.verify(&c.network), Err(RosterError::OtherNetwork));
    }

    #[test]
    fn a_generation_signed_by_a_stranger_is_refused() {
        let c = cast();
        let chain = c.chain.followed_by(vec![c.b.identity_public()], 1, c.b.identity());
        assert_eq!(chain.verify(&c.network), Err(RosterError::Unsigned));
        // Nor can a signer of the first generation start it anew in the root's place.
        let first = SignedGeneration::sign(c.chain.current().clone(), c.a.identity());
        let forged = Chain { root: c.root.public(), generations: vec![first] };
        assert_eq!(forged.verify(&c.network), Err(RosterError::Unsigned));
    }

    #[test]
    fn a_signature_counts_once_towards_the_threshold() {
        let c = cast();
        let two = c.chain.followed_by(vec![c.a.identity_public(), c.b.identity_public()], 2, c.a.identity());
        let mut three = two.followed_by(vec![c.b.identity_public()], 1, c.b.identity());
        assert_eq!(three.verify(&c.network), Err(RosterError::Unsigned));
        let last = three.generations.last_mut().unwrap();
        last.signatures.0.push(last.signatures.0[0]);
        assert_eq!(three.verify(&c.network), Err(RosterError::Unsigned));
        let last = three.generations.last_mut().unwrap();
        last.signatures.0[1] = Signatures::one(c.a.identity(), "generation", &last.body).0[0];
        assert_eq!(three.verify(&c.network), Ok(()));
    }

    #[test]
    fn a_left_out_or_swapped_generation_is_refused() {
        let c = cast();
        let chain = c.chain.followed_by(vec![c.b.identity_public()], 1, c.a.identity());
        let chain = chain.followed_by(vec![c.a.identity_public()], 1, c.b.identity());
        let mut gap = chain.clone();
        gap.generations.remove(1);
        assert_eq!(gap.verify(&c.network), Err(RosterError::Unsigned));
        let mut swapped = chain.clone();
        swapped.generations.swap(1, 2);
        assert_eq!(swapped.verify(&c.network), Err(RosterError::Unsigned));
    }

    #[test]
    fn a_generation_follows_the_one_that_it_names_alone() {
        let c = cast();
        let (a, b) = (c.a.identity_public(), c.b.identity_public());
        let one = c.chain.followed_by(vec![a, b], 1, c.a.identity());
        let other = c.chain.followed_by(vec![b, a], 1, c.a.identity());
        let mut mixed = one.followed_by(vec![b], 1, c.b.identity());
        assert_eq!(mixed.verify(&c.network), Ok(()));
        mixed.generations[1] = other.generations[1].clone();
        assert_eq!(mixed.verify(&c.network), Err(RosterError::Unsigned));
    }

    #[test]
    fn two_successors_of_one_generation_contradict_each_other() {
        let c = cast();
        let one = c.chain.followed_by(vec![c.a.identity_public()], 1, c.a.identity());
        let two = c.chain.followed_by(vec![c.b.identity_public()], 1, c.a.identity());
        assert!(one.contradicts(&two) && !one.contradicts(&c.chain) && !c.chain.contradicts(&one));
        let recovered = Chain::start(&c.root, 1, vec![c.b.identity_public()]);
        assert!(!recovered.contradicts(&one));
    }

    #[test]
    fn a_threshold_of_none_or_of_more_than_there_are_is_no_generation() {
        let c = cast();
        for threshold in [0, 2] {
            let bad = Generation { threshold, ..c.chain.current().clone() };
            assert!(Generation::from_bytes(&bad.to_bytes()).is_err());
        }
    }
}
