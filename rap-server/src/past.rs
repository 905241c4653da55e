//! The calls that are over: what recognises each, and its result, for as many as are remembered (INV-10).
//!
//! There may be a hundred thousand, and every call that ends puts one in and one out. So they stand one behind the
//! other in the order in which they ended, their results too, and are forgotten in that order: memory that was last
//! touched a hundred thousand calls ago is slow to come back, and slow to give back in as many pieces.

use crate::book::Key;
use bytes::Bytes;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// How many bytes of results stand in one block. A result of more than a quarter has a block of its own.
const BLOCK: usize = 64 << 10;

/// How much is kept of calls that are over; the oldest go first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) calls: usize,
    /// Of results, for delivering them again.
    pub(crate) result_bytes: usize,
}

/// The calls that are over.
#[derive(Default)]
pub(crate) struct Past {
    /// The oldest first.
    calls: VecDeque<Over>,
    /// The number of the oldest; the others count on from it.
    first: u32,
    /// The number of each, found by its key.
    numbers: HashTable<u32>,
    results: Results,
    /// So many of the oldest have no result any more.
    without_result: usize,
}

struct Over {
    key: Key,
    /// The fingerprint of what was asked.
    print: u64,
    result: Option<Place>,
}

impl Past {
    /// The fingerprint of what the call asked, if it is remembered.
    pub(crate) fn find(&self, key: Key) -> Option<u64> {
        self.call(key).map(|over| over.print)
    }

    /// The call's result, if it is still kept.
    pub(crate) fn result(&self, key: Key) -> Option<Bytes> {
        self.call(key)?.result.map(|place| self.results.get(place))
    }

    fn call(&self, key: Key) -> Option<&Over> {
        let of = |number: &u32| &self.calls[number.wrapping_sub(self.first) as usize];
        self.numbers.find(key.number(), |number| of(number).key == key).map(of)
    }

    /// Remembers a call, which is not remembered yet, and forgets the oldest as far as there is no room for them. What
    /// comes back is to be dropped when nobody waits.
    pub(crate) fn push(
        &mut self,
        key: Key,
        print: u64,
        result: Option<&Bytes>,
        room: Remembered,
    ) -> Vec<Block> {
        let mut dropped = Vec::new();
        let result = result.map(|result| self.results.push(result));
        let number = self.first.wrapping_add(self.calls.len() as u32);
        self.calls.push_back(Over { key, print, result });
        let Self { calls, first, numbers, .. } = self;
        let hash = |number: &u32| calls[number.wrapping_sub(*first) as usize].key.number();
        numbers.insert_unique(key.number(), number, hash);
        while self.calls.len() > room.calls.min(u32::MAX as usize)
            && let Some(oldest) = self.calls.pop_front()
        {
            let first = self.first;
            if let Ok(number) = self.numbers.find_entry(oldest.key.number(), |number| *number == first) {
                number.remove();
            }
            self.first = first.wrapping_add(1);
            self.without_result = self.without_result.saturating_sub(1);
            dropped.extend(oldest.result.and_then(|place| self.results.forget(place)));
        }
        while self.results.bytes > room.result_bytes
            && let Some(oldest) = self.calls.get_mut(self.without_result)
        {
            self.without_result += 1;
            dropped.extend(oldest.result.take().and_then(|place| self.results.forget(place)));
        }
        dropped
    }

    /// How many calls are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

/// Results, one behind the other, forgotten in the order in which they came.
#[derive(Default)]
struct Results {
    blocks: VecDeque<Block>,
    /// The number of the first block.
    first: u32,
    /// In all that are not forgotten.
    bytes: usize,
}

/// Where a result stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    block: u32,
    from: u32,
    bytes: u32,
}

/// Some results.
pub(crate) enum Block {
    /// Many small ones, and how many of them are not forgotten.
    Many(Vec<u8>, u32),
    /// A large one.
    One(Bytes),
}

impl Results {
    fn push(&mut self, result: &Bytes) -> Place {
        self.bytes += result.len();
        let bytes = result.len() as u32;
        let fits = |block: &Block| matches!(block, Block::Many(all, _) if all.len() + result.len() <= BLOCK);
        if result.len() > BLOCK / 4 {
            self.close();
            self.blocks.push_back(Block::One(result.clone()));
            return Place { block: self.last(), from: 0, bytes };
        }
        if !self.blocks.back().is_some_and(fits) {
            self.close();
            self.blocks.push_back(Block::Many(Vec::with_capacity(BLOCK), 0));
        }
        let mut from = 0;
        if let Some(Block::Many(all, kept)) = self.blocks.back_mut() {
            from = all.len() as u32;
            all.extend_from_slice(result);
            *kept += 1;
        }
        Place { block: self.last(), from, bytes }
    }

    /// Nothing more is written into the last block: it takes no more than it needs.
    fn close(&mut self) {
        match self.blocks.back_mut() {
            Some(Block::Many(_, 0)) => drop(self.blocks.pop_back()),
            Some(Block::Many(all, _)) => all.shrink_to_fit(),
            _ => {}
        }
    }

    fn last(&self) -> u32 {
        self.first.wrapping_add(self.blocks.len() as u32).wrapping_sub(1)
    }

    fn get(&self, place: Place) -> Bytes {
        let Place { block, from, bytes } = place;
        match &self.blocks[block.wrapping_sub(self.first) as usize] {
            Block::Many(all, _) => Bytes::copy_from_slice(&all[from as usize..][..bytes as usize]),
            Block::One(one) => one.clone(),
        }
    }

    /// Forgets the oldest; its block comes back when nothing else stands in it, or ever will.
    fn forget(&mut self, oldest: Place) -> Option<Block> {
        self.bytes -= oldest.bytes as usize;
        let is_open = self.blocks.len() == 1;
        let is_empty = match self.blocks.front_mut()? {
            Block::Many(_, kept) => {
                *kept -= 1;
                *kept == 0 && !is_open
            }
            Block::One(_) => true,
        };
        if !is_empty {
            return None;
        }
        self.first = self.first.wrapping_add(1);
        self.blocks.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Keys;

    fn key(keys: &Keys, n: usize) -> Key {
        keys.of(&format!("thread {}", n % 5).parse().unwrap(), &format!("call {n}").parse().unwrap())
    }

    fn result(n: usize, bytes: usize) -> Bytes {
        vec![n as u8; bytes].into()
    }

    /// INV-10: whatever the calls' results weigh, the last calls are recognised and the last results kept, each whole;
    /// and what is kept takes hardly more memory than it has bytes.
    #[test]
    fn the_last_ones_in_bounds() {
        for (calls, result_bytes) in
            [(0, 0), (1, 10), (100, 1 << 20), (1000, 100_000), (50, 0), (3000, 1 << 30)]
        {
            let room = Remembered { calls, result_bytes };
            let (keys, mut past, mut dice) = (Keys::default(), Past::default(), 7_usize);
            past.first = u32::MAX - 500;
            past.results.first = u32::MAX - 3;
            let mut sizes = Vec::new();
            for n in 0..4000 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let size = match dice >> 60 {
                    0 => None,
                    1 => Some(dice >> 47 & 0x1ffff),
                    2 => Some(BLOCK / 4 + (dice >> 50 & 1)),
                    _ => Some(dice >> 50 & 0xff),
                };
                assert_eq!(past.find(key(&keys, n)), None);
                past.push(key(&keys, n), n as u64, size.map(|size| result(n, size)).as_ref(), room);
                sizes.push(size);
                let (mut kept, mut first) = (0, n + 1);
                while first > 0
                    && first + calls > n + 1
                    && kept + sizes[first - 1].unwrap_or(0) <= result_bytes
                {
                    first -= 1;
                    kept += sizes[first].unwrap_or(0);
                }
                assert_eq!((past.results.bytes, past.len()), (kept, calls.min(n + 1)), "{n} {room:?}");
                if n % 97 > 0 {
                    continue;
                }
                let known = n + 1 - past.len();
                for (of, size) in sizes.iter().enumerate() {
                    assert_eq!(past.find(key(&keys, of)), (of >= known).then_some(of as u64));
                    let is_kept = of >= first;
                    let found = past.result(key(&keys, of));
                    assert_eq!(
                        found,
                        size.filter(|_| is_kept).map(|size| result(of, size)),
                        "{of} of {n} {room:?}"
                    );
                }
                let taken = past.results.blocks.iter().map(|block| match block {
                    Block::Many(all, _) => all.capacity(),
                    Block::One(one) => one.len(),
                });
                assert!(taken.sum::<usize>() <= kept + 2 * BLOCK, "{n} {room:?}");
            }
        }
    }
}
