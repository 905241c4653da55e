//! A history to hand on: cloning it costs a word for each few hundred entries, none of them is copied, and those that
//! nobody looks at are not even parsed.
//!
//! It is a list of pieces of shared blocks. What a store has sealed comes as text and is parsed when somebody looks;
//! what is added grows the last block. Beside the entries goes their digest, where it is known, and grows with them.

use super::Entry;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    ops::{Index, Range},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Entries of a block that grows, at most.
const BLOCK: usize = 256;

/// Entries in their order, oldest first, as a thread sees them or a model is shown them. Equal where the entries are.
#[derive(Clone, Default)]
pub struct History {
    pieces: Vec<Piece>,
    len: usize,
    digest: Option<HistoryDigest>,
}

#[derive(Clone)]
struct Piece {
    block: Arc<Block>,
    part: Range<usize>,
}

struct Block {
    entries: OnceLock<Box<[Arc<Entry>]>>,
    /// What is not parsed yet.
    sealed: Mutex<Option<Sealed>>,
    has: Has,
}

/// What may be among some entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Has {
    summaries: bool,
    images: bool,
}

/// Entries that a store has put together as text, to be parsed when somebody looks at them.
#[derive(Debug, Clone)]
pub struct Sealed {
    text: Box<str>,
    count: usize,
    has: Has,
}

impl Sealed {
    /// The entries as text; none where there are none.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Self> {
        let (mut text, mut count, mut has) = (Vec::new(), 0, Has::default());
        for entry in entries {
            if count > 0 {
                text.push(b'\n');
            }
            serde_json::to_writer(&mut text, entry).expect("bug: entries are plain data");
            has = has.and(Has::of(entry));
            count += 1;
        }
        let text = String::from_utf8(text).expect("bug: JSON is UTF-8").into_boxed_str();
        (count > 0).then_some(Self { text, count, has })
    }

    /// What [`text`](Self::text), [`len`](Self::len) and [`flags`](Self::flags) told: the store answers for it that the
    /// text is the same to the byte.
    pub fn from_stored(text: impl Into<Box<str>>, count: usize, flags: u8) -> Self {
        let has = Has { summaries: flags & 1 != 0, images: flags & 2 != 0 };
        Self { text: text.into(), count, has }
    }

    /// The entries, each as a line of JSON.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many they are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// What is known of them without parsing them.
    pub fn flags(&self) -> u8 {
        u8::from(self.has.summaries) | u8::from(self.has.images) << 1
    }

    /// The entries.
    ///
    /// # Errors
    /// When the text is not what [`new`](Self::new) made of so many entries; the sentence says where.
    pub fn entries(&self) -> Result<Vec<Arc<Entry>>, String> {
        let mut entries = Vec::with_capacity(self.count);
        for (n, line) in self.text.split('\n').enumerate() {
            let entry = serde_json::from_str(line).map_err(|e| format!("entry {n} of a segment: {e}"))?;
            entries.push(Arc::new(entry));
        }
        if entries.len() == self.count {
            Ok(entries)
        } else {
            Err(format!("a segment has {} entries, not {}", entries.len(), self.count))
        }
    }
}

impl Has {
    fn of(entry: &Entry) -> Self {
        let shows = |content: &[rap_types::ContentPart]| {
            content.iter().any(|part| !matches!(part, rap_types::ContentPart::Text(_)))
        };
        let images = match entry {
            Entry::User(user) => shows(&user.content),
            Entry::Event(event) => shows(&event.content),
            Entry::Results { results } => results.iter().any(|result| shows(&result.content)),
            Entry::Turn(_) | Entry::Summary(_) => false,
        };
        Self { summaries: matches!(entry, Entry::Summary(_)), images }
    }

    fn and(self, other: Self) -> Self {
        Self { summaries: self.summaries | other.summaries, images: self.images | other.images }
    }
}

impl Block {
    fn parsed(entries: Box<[Arc<Entry>]>, has: Has) -> Self {
        Self { entries: OnceLock::from(entries), sealed: Mutex::default(), has }
    }

    fn entries(&self) -> &[Arc<Entry>] {
        self.entries.get_or_init(|| {
            let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = sealed.as_ref().map(Sealed::entries);
            let entries = entries.expect("bug: a block has entries or text");
            let entries =
                entries.unwrap_or_else(|why| panic!("bug: a store vouched for what it is not: {why}"));
            *sealed = None;
            entries.into_boxed_slice()
        })
    }
}

impl Piece {
    fn entries(&self) -> &[Arc<Entry>] {
        &self.block.entries()[self.part.clone()]
    }
}

impl History {
    /// None yet. Its digest is known.
    pub fn new() -> Self {
        Self { digest: Some(HistoryDigest::default()), ..Self::default() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, oldest first. Text is parsed piece by piece, as they are reached.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.pieces.iter().flat_map(|piece| piece.entries())
    }

    /// The entries.
    pub fn to_vec(&self) -> Vec<Arc<Entry>> {
        self.iter().cloned().collect()
    }

    /// The newest entry.
    pub fn last(&self) -> Option<&Arc<Entry>> {
        self.pieces.last()?.entries().last()
    }

    /// The entry at a place.
    pub fn get(&self, mut index: usize) -> Option<&Arc<Entry>> {
        for piece in &self.pieces {
            if index < piece.part.len() {
                return piece.entries().get(index);
            }
            index -= piece.part.len();
        }
        None
    }

    /// Whether something that is no text may be shown. Told without parsing: a yes may be wrong, a no is not.
    pub fn may_show_images(&self) -> bool {
        self.pieces.iter().any(|piece| piece.block.has.images)
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Arc<Entry>) {
        self.extend([entry]);
    }

    /// Adds what a store has sealed. The digest is not known then.
    pub fn push_sealed(&mut self, sealed: Sealed) {
        self.digest = None;
        self.len += sealed.count;
        let (part, has) = (0..sealed.count, sealed.has);
        let block = Block { entries: OnceLock::new(), sealed: Mutex::new(Some(sealed)), has };
        self.pieces.push(Piece { block: Arc::new(block), part });
    }

    /// Adds another history. The digest is not known then.
    pub fn append(&mut self, other: &Self) {
        self.digest = None;
        for piece in &other.pieces {
            if piece.part.len() < BLOCK / 2 && piece.block.entries.get().is_some() {
                self.extend(piece.entries().iter().cloned());
            } else {
                self.len += piece.part.len();
                self.pieces.push(piece.clone());
            }
        }
    }

    /// A part of it, as far as it is there. Its digest is not known.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = Self::default();
        let mut before = 0;
        for piece in &self.pieces {
            let len = piece.part.len();
            let from = range.start.saturating_sub(before).min(len);
            let upto = range.end.saturating_sub(before).min(len);
            if from < upto {
                let part = piece.part.start + from..piece.part.start + upto;
                slice.len += part.len();
                slice.pieces.push(Piece { block: piece.block.clone(), part });
            }
            before += len;
        }
        slice
    }

    /// It without the summaries in it. Only what may hold one is parsed.
    #[must_use]
    pub fn without_summaries(&self) -> Self {
        if !self.pieces.iter().any(|piece| piece.block.has.summaries) {
            return self.clone();
        }
        let mut rest = Self::default();
        for piece in &self.pieces {
            if piece.block.has.summaries {
                let kept = piece.entries().iter().filter(|entry| !matches!(***entry, Entry::Summary(_)));
                rest.extend(kept.cloned());
            } else {
                rest.len += piece.part.len();
                rest.pieces.push(piece.clone());
            }
        }
        rest
    }

    /// The digest of all entries: worked out once, then it grows with them.
    pub fn digest(&mut self) -> HistoryDigest {
        if let Some(known) = self.digest {
            return known;
        }
        let mut digest = HistoryDigest::default();
        let mut json = Vec::new();
        self.iter().for_each(|entry| digest.add(entry, &mut json));
        *self.digest.insert(digest)
    }

    /// The digest, where it is known.
    pub fn known_digest(&self) -> Option<HistoryDigest> {
        self.digest
    }

    /// With the digest that was kept with these very entries.
    #[must_use]
    pub fn with_digest(mut self, digest: Option<HistoryDigest>) -> Self {
        self.digest = digest;
        self
    }
}

impl Extend<Arc<Entry>> for History {
    fn extend<I: IntoIterator<Item = Arc<Entry>>>(&mut self, entries: I) {
        let mut entries = entries.into_iter().peekable();
        let mut json = Vec::new();
        while entries.peek().is_some() {
            // The last block grows by being made anew: whoever else has it keeps the old one.
            let open = self.pieces.last().filter(|last| {
                last.part.end < BLOCK
                    && last.block.entries.get().is_some_and(|all| all.len() == last.part.end)
            });
            let (mut grown, mut has) = (Vec::new(), Has::default());
            let mut from = 0;
            if let Some(open) = open {
                grown.extend_from_slice(open.block.entries());
                (has, from) = (open.block.has, open.part.start);
                self.pieces.pop();
            }
            let before = grown.len();
            while grown.len() < BLOCK
                && let Some(entry) = entries.next()
            {
                if let Some(digest) = &mut self.digest {
                    digest.add(&entry, &mut json);
                }
                has = has.and(Has::of(&entry));
                grown.push(entry);
            }
            self.len += grown.len() - before;
            let part = from..grown.len();
            let block = Arc::new(Block::parsed(grown.into_boxed_slice(), has));
            self.pieces.push(Piece { block, part });
        }
    }
}

impl FromIterator<Arc<Entry>> for History {
    fn from_iter<I: IntoIterator<Item = Arc<Entry>>>(entries: I) -> Self {
        let mut history = Self::default();
        history.extend(entries);
        history
    }
}

impl From<Vec<Arc<Entry>>> for History {
    fn from(entries: Vec<Arc<Entry>>) -> Self {
        entries.into_iter().collect()
    }
}

impl Index<usize> for History {
    type Output = Arc<Entry>;

    fn index(&self, index: usize) -> &Arc<Entry> {
        self.get(index).expect("an index within the history")
    }
}

impl<'a> IntoIterator for &'a History {
    type Item = &'a Arc<Entry>;
    type IntoIter = Box<dyn Iterator<Item = &'a Arc<Entry>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A digest of entries in their order, made so that it grows with them: for each one the SHA-256 of the digest before it
/// and of the entry as JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryDigest([u8; 32]);

impl HistoryDigest {
    fn add(&mut self, entry: &Entry, json: &mut Vec<u8>) {
        json.clear();
        serde_json::to_writer(&mut *json, entry).expect("bug: entries are plain data");
        let mut sha = Sha256::new();
        sha.update(self.0);
        sha.update(&*json);
        self.0 = sha.finalize().into();
    }

    /// The digest of the entries before and these.
    #[must_use]
    pub fn and<'a>(mut self, entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut json = Vec::new();
        entries.into_iter().for_each(|entry| self.add(entry, &mut json));
        self
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for HistoryDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> Arc<Entry> {
        Arc::new(Entry::from_runtime(format!("entry {n}")))
    }

    fn all(range: Range<usize>) -> Vec<Arc<Entry>> {
        range.map(entry).collect()
    }

    fn sealed(range: Range<usize>) -> Sealed {
        let entries = all(range);
        let sealed = Sealed::new(entries.iter().map(|entry| &**entry)).unwrap();
        Sealed::from_stored(sealed.text(), sealed.len(), sealed.flags())
    }

    /// However a history came to be, it is the same to whoever reads it, and so is its digest.
    #[test]
    fn made_in_many_ways() {
        let mut flat: History = all(0..1_000).into();
        let mut one_by_one = History::new();
        all(0..1_000).into_iter().for_each(|entry| one_by_one.push(entry));
        let mut mixed = History::new();
        mixed.push_sealed(sealed(0..300));
        mixed.push_sealed(sealed(300..301));
        mixed.extend(all(301..500));
        mixed.append(&flat.slice(500..900));
        mixed.extend(all(900..1_000));
        let mut again = History::new();
        again.append(&mixed.slice(0..310));
        again.append(&flat.slice(310..5_000));
        for made in [&mut one_by_one, &mut mixed, &mut again] {
            assert_eq!(made.len(), 1_000);
            assert!(*made == flat && made.to_vec() == all(0..1_000));
            assert_eq!(made.digest(), flat.digest());
            assert!(made[299] == entry(299) && made[300] == entry(300) && made[999] == entry(999));
            assert_eq!(made.get(1_000), None);
            assert_eq!(made.iter().next_back(), made.last());
        }
        assert!(flat.slice(1..999) != flat.slice(0..998));
        assert_ne!(flat.slice(1..999).digest(), flat.slice(0..998).digest());
    }

    /// What is handed on stays as it is, whatever is added afterwards.
    #[test]
    fn what_was_cloned_stays() {
        let mut history: History = all(0..10).into();
        let (before, part) = (history.clone(), history.slice(2..5));
        history.extend(all(10..20));
        let mut other = before.clone();
        other.push(entry(77));
        assert_eq!((before.len(), history.len(), other.len()), (10, 20, 11));
        assert!(before.to_vec() == all(0..10) && part.to_vec() == all(2..5));
        assert!(history.to_vec() == all(0..20));
        let mut part = part;
        part.push(entry(5));
        assert!(part.to_vec() == all(2..6));
    }

    #[test]
    fn text_is_parsed_when_somebody_looks() {
        let broken = Sealed::from_stored("{\"entry\":", 1, 0);
        assert!(broken.entries().unwrap_err().contains("entry 0"));
        assert!(Sealed::from_stored(sealed(0..2).text(), 3, 0).entries().unwrap_err().contains("not 3"));
        let mut history = History::new();
        history.push_sealed(broken);
        history.extend(all(1..4));
        assert_eq!(history.len(), 4);
        assert_eq!(history.last(), Some(&entry(3)));
        assert!(history.slice(1..4).to_vec() == all(1..4));
        assert!(!history.may_show_images());
        assert_eq!(history.known_digest(), None);
    }

    #[test]
    fn summaries_and_images_are_known_without_a_look() {
        let summary = crate::SummaryEntry {
            covers: crate::Segment { thread: rap_types::ThreadId::new("root").unwrap(), upto: 1 },
            text: "so far".into(),
        };
        let entries = [(*entry(0)).clone(), Entry::Summary(summary), (*entry(1)).clone()];
        let sealed = Sealed::new(&entries).unwrap();
        assert_eq!(sealed.flags(), 1);
        let mut history = History::new();
        history.push_sealed(sealed);
        history.push(entry(2));
        assert!(history.without_summaries().to_vec() == all(0..3));
        assert!(Sealed::new([]).is_none());
    }
}
