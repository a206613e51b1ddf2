//! The prefix cache: what the transformer has computed of prompts, for further samples of prompts that begin alike.
//!
//! A prompt is kept in blocks of [`BLOCK`](super::kv::BLOCK) tokens, which always begin at a multiple of it. No row of a product
//! depends on the others, and attention goes block by block. So a block is computed from the same numbers in the same order,
//! whether the blocks before it were computed just now or for another prompt: no bit of a result depends on what is in the cache.
//!
//! A block is found by its tokens and the block before it, so all tokens up to its end are the same. The last block of a prompt
//! may be shorter; it is found by the same prompt only. A block that is computed again, with other weights, is another block: those
//! that came after the old one are not found after it.
//!
//! For weights that are replaced now and then, blocks of earlier weights still serve as what comes before others, as on the service.
//! What is reported always comes from blocks of the latest weights. Other weights use their own blocks only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use ndarray::Array2;
use parking_lot::Mutex;

use super::kv::KvBlock;
use crate::local::model::{Adapter, KvNamespace};

/// What the network computes of a block.
#[derive(Debug)]
pub(super) struct PromptBlock {
    pub(super) kv: Arc<KvBlock>,
    /// The normalized output of the last layer, one row per token, from which the logits of the next token follow.
    pub(super) output: Array2<f32>,
    /// The weights that computed it, in a namespace whose weights may be replaced; none are those of the base model.
    pub(super) adapter: Option<Weak<Adapter>>,
}

impl PromptBlock {
    fn bytes(&self) -> usize {
        self.kv.bytes() + self.output.len() * size_of::<f32>() + self.output.nrows() * size_of::<u32>()
    }
}

/// Blocks of prompts, up to a number of bytes. The ones that were not used for the longest time are dropped first.
#[derive(Debug)]
pub(super) struct PromptCache {
    max_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    blocks: HashMap<BlockKey, Entry>,
    /// By the time of the last use, which is different for each block.
    by_use: BTreeMap<u64, BlockKey>,
    /// The namespaces that have blocks, except for that of the base model.
    namespaces: HashMap<u64, Weak<u64>>,
    bytes: usize,
    /// Number of uses so far, as a clock.
    uses: u64,
    /// Number of blocks so far.
    created: u64,
}

/// What comes before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Parent {
    /// Nothing, in the namespace of the base model.
    Base,
    /// Nothing, in this namespace.
    Namespace(u64),
    Block(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BlockKey {
    parent: Parent,
    tokens: Box<[u32]>,
}

#[derive(Debug)]
struct Entry {
    /// Unique, also among blocks that were dropped.
    id: u64,
    root: Parent,
    last_use: u64,
    block: Arc<PromptBlock>,
}

/// The way from the beginning of a prompt along the blocks that are kept.
#[derive(Clone, Debug)]
pub(super) struct KeptPath {
    namespace: Option<(u64, Weak<u64>)>,
    keys: Vec<BlockKey>,
    /// The block at its end. `None` once a block was not kept: those after it would never be found.
    last: Option<Parent>,
}

impl KeptPath {
    /// At the beginning of a prompt. Without a namespace, it is for the base model.
    pub(super) fn new(namespace: Option<&KvNamespace>) -> Self {
        let mut path = KeptPath { namespace: namespace.map(KvNamespace::identity), keys: Vec::new(), last: None };
        path.last = Some(path.root());
        path
    }

    fn root(&self) -> Parent {
        self.namespace.as_ref().map_or(Parent::Base, |(id, _)| Parent::Namespace(*id))
    }

    fn next(&self, tokens: &[u32]) -> Option<BlockKey> {
        self.last.map(|parent| BlockKey { parent, tokens: tokens.into() })
    }

    fn push(&mut self, key: BlockKey, id: u64) {
        self.keys.push(key);
        self.last = Some(Parent::Block(id));
    }
}

impl PromptCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        let (blocks, by_use, namespaces) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        let entries = Entries { blocks, by_use, namespaces, bytes: 0, uses: 0, created: 0 };
        PromptCache { max_bytes, entries: Mutex::new(entries) }
    }

    /// The next block of a prompt, if it is known and of use. The path is to be marked as used after its last block.
    pub(super) fn find(
        &self,
        path: &mut KeptPath,
        tokens: &[u32],
        is_of_use: impl Fn(&PromptBlock) -> bool,
    ) -> Option<Arc<PromptBlock>> {
        let key = path.next(tokens)?;
        let entries = self.entries.lock();
        let entry = entries.blocks.get(&key).filter(|entry| is_of_use(&entry.block))?;
        path.push(key, entry.id);
        Some(entry.block.clone())
    }

    /// Marks all blocks of a path as used.
    pub(super) fn mark_used(&self, path: &KeptPath) {
        self.entries.lock().mark_used(&path.keys);
    }

    /// Keeps the next block of a prompt, if it fits, in place of an earlier one of the same tokens.
    pub(super) fn keep(&self, path: &mut KeptPath, tokens: &[u32], block: &Arc<PromptBlock>) {
        let Some(key) = path.next(tokens) else { return };
        path.last = None;
        let mut entries = self.entries.lock();
        entries.drop_ended_namespaces();
        let has_parent = path.keys.last().is_none_or(|parent| entries.blocks.contains_key(parent));
        let path_bytes = path.keys.iter().filter_map(|key| entries.blocks.get(key)).map(|entry| entry.block.bytes());
        if !has_parent || path_bytes.sum::<usize>() + block.bytes() > self.max_bytes {
            return;
        }
        if let Some((id, exists)) = &path.namespace {
            entries.namespaces.insert(*id, exists.clone());
        }
        let id = entries.insert(&key, path.root(), block);
        path.push(key, id);
        entries.mark_used(&path.keys);
        while entries.bytes > self.max_bytes {
            let Some(oldest) = entries.by_use.first_key_value().map(|(_, key)| key.clone()) else { break };
            entries.remove(&oldest);
        }
    }
}

impl Entries {
    /// Adds a block, and returns its id.
    fn insert(&mut self, key: &BlockKey, root: Parent, block: &Arc<PromptBlock>) -> u64 {
        self.remove(key);
        let id = self.created;
        self.created += 1;
        self.uses += 1;
        self.bytes += block.bytes();
        self.by_use.insert(self.uses, key.clone());
        self.blocks.insert(key.clone(), Entry { id, root, last_use: self.uses, block: block.clone() });
        id
    }

    /// Marks the blocks of a path as used: the last one first, so that a block is dropped before those that come before it, without
    /// which it cannot be found.
    fn mark_used(&mut self, keys: &[BlockKey]) {
        for key in keys.iter().rev() {
            if let Some(entry) = self.blocks.get_mut(key) {
                self.uses += 1;
                self.by_use.remove(&entry.last_use);
                entry.last_use = self.uses;
                self.by_use.insert(self.uses, key.clone());
            }
        }
    }

    fn drop_ended_namespaces(&mut self) {
        let before = self.namespaces.len();
        self.namespaces.retain(|_, exists| exists.strong_count() > 0);
        if self.namespaces.len() == before {
            return;
        }
        let namespaces = &self.namespaces;
        let is_ended = |entry: &Entry| matches!(entry.root, Parent::Namespace(id) if !namespaces.contains_key(&id));
        let ended: Vec<_> =
            self.blocks.iter().filter(|(_, entry)| is_ended(entry)).map(|(key, _)| key.clone()).collect();
        ended.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &BlockKey) {
        if let Some(entry) = self.blocks.remove(key) {
            self.by_use.remove(&entry.last_use);
            self.bytes -= entry.block.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kv::{BLOCK, KvShape};
    use super::*;

    const WIDTH: usize = 4;
    const SHAPE: KvShape = KvShape { layers: 1, heads: 1, head_size: WIDTH };
    /// A prompt has two whole blocks, and five tokens more.
    const LENGTH: usize = 2 * BLOCK + 5;

    fn prompt(first: u32) -> Vec<u32> {
        (first..).take(LENGTH).collect()
    }

    /// Keeps the blocks of a prompt; returns its path.
    fn keep(cache: &PromptCache, namespace: Option<&KvNamespace>, first: u32) -> KeptPath {
        let mut path = KeptPath::new(namespace);
        for tokens in prompt(first).chunks(BLOCK) {
            if cache.find(&mut path, tokens, |_| true).is_none() {
                let output = Array2::zeros((tokens.len(), WIDTH));
                let block = PromptBlock { kv: Arc::new(KvBlock::new(SHAPE)), output, adapter: None };
                cache.keep(&mut path, tokens, &Arc::new(block));
            }
        }
        cache.mark_used(&path);
        path
    }

    /// The bytes of blocks with this number of tokens in all.
    fn bytes(blocks: usize, tokens: usize) -> usize {
        blocks * SHAPE.block_bytes() + tokens * (WIDTH + 1) * 4
    }

    /// How many tokens of a prompt are found.
    fn found(cache: &PromptCache, namespace: Option<&KvNamespace>, first: u32) -> usize {
        let mut path = KeptPath::new(namespace);
        let blocks = prompt(first);
        let blocks = blocks.chunks(BLOCK).map_while(|tokens| cache.find(&mut path, tokens, |_| true));
        blocks.map(|block| block.output.nrows()).sum()
    }

    fn size(cache: &PromptCache) -> (usize, usize) {
        let entries = cache.entries.lock();
        assert_eq!(entries.blocks.len(), entries.by_use.len());
        (entries.blocks.len(), entries.bytes)
    }

    #[test]
    fn the_oldest_prompts_are_dropped_from_their_ends() {
        // Room for two prompts, and one block more.
        let room = bytes(7, 2 * LENGTH + BLOCK);
        let cache = PromptCache::new(room);
        for first in [0, 1000, 0, 2000] {
            keep(&cache, None, first);
        }
        // The beginning of the second prompt is left.
        assert_eq!([0, 1000, 2000].map(|first| found(&cache, None, first)), [LENGTH, BLOCK, LENGTH]);
        assert_eq!(size(&cache), (7, room));
        for first in 0..1000 {
            keep(&cache, None, first * 100);
            assert!(size(&cache).1 <= room);
        }
        assert_eq!(found(&cache, None, 99_900), LENGTH);
    }

    #[test]
    fn a_larger_prompt_keeps_its_beginning() {
        let cache = PromptCache::new(bytes(1, 40));
        assert_eq!(keep(&cache, None, 0).last, None);
        assert_eq!((found(&cache, None, 0), size(&cache)), (BLOCK, (1, bytes(1, BLOCK))));
        let none = PromptCache::new(0);
        keep(&none, None, 0);
        assert_eq!((found(&none, None, 0), size(&none)), (0, (0, 0)));
    }

    #[test]
    fn nothing_is_kept_after_a_dropped_block() {
        let cache = PromptCache::new(bytes(3, LENGTH));
        let mut path = KeptPath::new(None);
        let block =
            PromptBlock { kv: Arc::new(KvBlock::new(SHAPE)), output: Array2::zeros((BLOCK, WIDTH)), adapter: None };
        let block = Arc::new(block);
        cache.keep(&mut path, &[1; BLOCK], &block);
        keep(&cache, None, 0);
        cache.keep(&mut path, &[2; BLOCK], &block);
        assert_eq!((path.last, size(&cache), found(&cache, None, 0)), (None, (3, bytes(3, LENGTH)), LENGTH));
    }

    #[test]
    fn a_replaced_block_is_another_one() {
        let cache = PromptCache::new(usize::MAX);
        keep(&cache, None, 0);
        let block =
            PromptBlock { kv: Arc::new(KvBlock::new(SHAPE)), output: Array2::zeros((BLOCK, WIDTH)), adapter: None };
        cache.keep(&mut KeptPath::new(None), &prompt(0)[..BLOCK], &Arc::new(block));
        assert_eq!(found(&cache, None, 0), BLOCK);
    }

    #[test]
    fn the_blocks_of_ended_namespaces_are_dropped() {
        let cache = PromptCache::new(usize::MAX);
        let [first, second] = [KvNamespace::new(), KvNamespace::new()];
        for namespace in [Some(&first), Some(&second), None] {
            keep(&cache, namespace, 0);
        }
        assert_eq!(size(&cache).0, 9);
        drop(first);
        keep(&cache, Some(&second), 1000);
        assert_eq!(size(&cache).0, 9);
        assert_eq!((found(&cache, Some(&second), 0), found(&cache, None, 0)), (LENGTH, LENGTH));
        assert_eq!(found(&cache, Some(&KvNamespace::new()), 0), 0);
    }
}
