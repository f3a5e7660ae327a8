//! Searches bytes for many forms at once.
//!
//! Three bytes decide whether any form can begin at a place: one bit of a table of two MiB. Then four lead to the few
//! forms that begin with them. So disks and memories of hundreds of MiB are searched in seconds.

use std::{
    collections::HashMap,
    io::{self, Read},
};

use crate::{
    canary::Canary,
    encode::{Form, Weight},
};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Bytes kept on either side of a match, for whoever has to find out what it is.
const AROUND: usize = 24;

/// Where a canary was seen.
#[derive(Clone)]
pub(crate) struct Hit {
    /// Which one, by its number.
    pub(crate) canary: usize,
    /// In which form.
    pub(crate) form: &'static str,
    /// How much it says.
    pub(crate) weight: Weight,
    /// How far from the beginning.
    pub(crate) offset: u64,
    /// The bytes before, of, and behind it.
    pub(crate) context: Vec<u8>,
}

/// All forms of all canaries.
pub(crate) struct Searcher {
    forms: Vec<(usize, Form)>,
    /// Whether a form begins with these three bytes.
    begins: Vec<u64>,
    by_start: HashMap<[u8; 4], Vec<usize>>,
    longest: usize,
}

impl Searcher {
    /// For these canaries, by their position.
    pub(crate) fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut searcher =
            Self { forms: Vec::new(), begins: vec![0; 1 << 18], by_start: HashMap::new(), longest: 4 };
        for (number, canary) in canaries.into_iter().enumerate() {
            for form in canary.forms() {
                searcher.add(number, form);
            }
        }
        searcher
    }

    fn add(&mut self, canary: usize, form: Form) {
        let start: [u8; 4] = form.bytes[..4].try_into().expect("no form is shorter");
        let key = three(&start);
        self.begins[key >> 6] |= 1 << (key & 63);
        self.longest = self.longest.max(form.bytes.len());
        self.by_start.entry(start).or_default().push(self.forms.len());
        self.forms.push((canary, form));
    }

    /// Everything in `bytes`.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.window(bytes, 0, bytes.len(), 0, &mut hits);
        hits
    }

    /// Everything that comes out of `reader`.
    pub(crate) fn reader(&self, mut reader: impl Read) -> io::Result<Vec<Hit>> {
        let mut hits = Vec::new();
        // A window has the chunk and, around it, enough of its neighbours for what lies across their border.
        let margin = self.longest + AROUND;
        let mut window: Vec<u8> = Vec::with_capacity(CHUNK + 2 * margin);
        let (mut base, mut searched) = (0_u64, 0_usize);
        loop {
            let before = window.len();
            (&mut reader).take(CHUNK as u64).read_to_end(&mut window)?;
            let last = window.len() == before;
            let end = if last { window.len() } else { window.len().saturating_sub(margin).max(searched) };
            self.window(&window, searched, end, base, &mut hits);
            if last {
                return Ok(hits);
            }
            let cut = end.saturating_sub(margin);
            window.drain(..cut);
            base += cut as u64;
            searched = end - cut;
        }
    }

    /// What begins in `window[from..to]`.
    fn window(&self, window: &[u8], from: usize, to: usize, base: u64, hits: &mut Vec<Hit>) {
        for at in from..to.min(window.len().saturating_sub(3)) {
            let start: [u8; 4] = window[at..at + 4].try_into().expect("four bytes");
            let key = three(&start);
            if self.begins[key >> 6] >> (key & 63) & 1 == 0 {
                continue;
            }
            for index in self.by_start.get(&start).into_iter().flatten() {
                let (canary, form) = &self.forms[*index];
                let end = at + form.bytes.len();
                let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
                let part_of_another = form.weight.number()
                    && (digit(at.checked_sub(1).map(|before| &window[before])) || digit(window.get(end)));
                if !window[at..].starts_with(&form.bytes) || part_of_another {
                    continue;
                }
                hits.push(Hit {
                    canary: *canary,
                    form: form.name,
                    weight: form.weight,
                    offset: base + at as u64,
                    context: window[at.saturating_sub(AROUND)..(end + AROUND).min(window.len())].to_vec(),
                });
            }
        }
    }
}

fn three(start: &[u8; 4]) -> usize {
    usize::from(start[0]) | usize::from(start[1]) << 8 | usize::from(start[2]) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Kind;

    fn canaries() -> Vec<Canary> {
        vec![
            Canary::ipv4(Kind::Public, Some(0), "83.149.207.61".parse().unwrap(), &[51_823]),
            Canary::name(Kind::Name, Some(1), "kestrel-7f"),
        ]
    }

    fn found(hits: &[Hit]) -> Vec<(usize, &str, u64)> {
        hits.iter().map(|hit| (hit.canary, hit.form, hit.offset)).collect()
    }

    #[test]
    fn what_is_there_is_found_where_it_is() {
        let searcher = Searcher::new(&canaries());
        let hits = searcher.bytes(b"peer kestrel-7f at 83.149.207.61:51823\n");
        assert_eq!(found(&hits), [(1, "text", 5), (0, "text", 19)]);
        assert!(searcher.bytes(b"peer kestrel-8f at 83.149.207.62").is_empty());
    }

    #[test]
    fn part_of_another_number_is_another_number() {
        let searcher = Searcher::new(&canaries());
        assert!(searcher.bytes(b"83.149.207.610").is_empty());
        assert!(searcher.bytes(b"183.149.207.61").is_empty());
        assert_eq!(searcher.bytes(b"x83.149.207.61,").len(), 1);
    }

    #[test]
    fn what_lies_across_the_border_of_two_chunks_is_found_once() {
        let searcher = Searcher::new(&canaries());
        for shift in 0..12 {
            let mut bytes = vec![0_u8; 3 * CHUNK];
            let at = 2 * CHUNK - shift;
            bytes[at..at + 10].copy_from_slice(b"kestrel-7f");
            let hits = searcher.reader(&bytes[..]).unwrap();
            assert_eq!(found(&hits), [(1, "text", at as u64)]);
        }
        let mut end = vec![0_u8; CHUNK + 7];
        end.extend(b"kestrel-7f");
        assert_eq!(searcher.reader(&end[..]).unwrap().len(), 1);
    }
}
