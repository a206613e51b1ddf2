//! The prefix cache: what the transformer has computed of prompts, for further samples of prompts that begin alike.
//!
//! A prompt is computed in blocks of [`BLOCK`] tokens, which always begin at a multiple of it, and each block is one call of
//! the network. So a block is computed from the same numbers in the same order, whether the blocks before it were computed
//! just now or for another prompt: no bit of a result depends on what is in the cache.
//!
//! A block is found by its tokens and the block before it, so all tokens up to its end are the same. The last block of a prompt
//! may be shorter; it is found by the same prompt only.
//!
//! For weights that are replaced now and then, blocks of earlier weights still serve as what comes before others, as on the service.
//! What is reported always comes from blocks of the latest weights. Other weights use their own blocks only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use ndarray::Array2;
use parking_lot::Mutex;

use super::kv_cache::KvCache;
use crate::local::kernel::Real;
use crate::local::model::{Adapter, KvNamespace};

/// Tokens of a block. With fewer, products of matrices are slower; with more, less of similar prompts is shared.
pub(super) const BLOCK: usize = 32;

/// What the network computes of a block.
#[derive(Debug)]
pub(super) struct PromptBlock<T> {
    /// For each layer, of the tokens of the block only.
    pub(super) caches: Vec<KvCache<T>>,
    /// The normalized output of the last layer, one row per token, from which the logits of the next token follow.
    pub(super) output: Array2<T>,
    /// The weights that computed it, in a namespace whose weights may be replaced; none are those of the base model.
    pub(super) adapter: Option<Weak<Adapter>>,
}

impl<T: Real> PromptBlock<T> {
    fn bytes(&self) -> usize {
        let numbers = self.output.len() + self.caches.iter().map(KvCache::size).sum::<usize>();
        numbers * size_of::<T>() + self.output.nrows() * size_of::<u32>()
    }
}

/// Blocks of prompts, up to a number of bytes. The ones that were not used for the longest time are dropped first.
#[derive(Debug)]
pub(super) struct PromptCache<T> {
    max_bytes: usize,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    blocks: HashMap<BlockKey, Entry<T>>,
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
struct Entry<T> {
    /// Unique, also among blocks that were dropped.
    id: u64,
    root: Parent,
    last_use: u64,
    block: Arc<PromptBlock<T>>,
}

impl<T: Real> PromptCache<T> {
    pub(super) fn new(max_bytes: usize) -> Self {
        let (blocks, by_use, namespaces) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        let entries = Entries { blocks, by_use, namespaces, bytes: 0, uses: 0, created: 0 };
        PromptCache { max_bytes, entries: Mutex::new(entries) }
    }

    /// The first blocks of a prompt, as far as they are known. Without a namespace, those of the base model.
    pub(super) fn find(&self, namespace: Option<&KvNamespace>, tokens: &[u32]) -> Vec<Arc<PromptBlock<T>>> {
        let mut entries = self.entries.lock();
        let (mut parent, mut keys, mut found) = (root(namespace), Vec::new(), Vec::new());
        for tokens in tokens.chunks(BLOCK) {
            let key = BlockKey { parent, tokens: tokens.into() };
            let Some(entry) = entries.blocks.get(&key) else { break };
            parent = Parent::Block(entry.id);
            found.push(entry.block.clone());
            keys.push(key);
        }
        entries.mark_used(keys);
        found
    }

    /// Keeps the blocks of a prompt, as many as fit.
    pub(super) fn insert(&self, namespace: Option<&KvNamespace>, tokens: &[u32], blocks: &[Arc<PromptBlock<T>>]) {
        let mut entries = self.entries.lock();
        entries.drop_ended_namespaces();
        let root = root(namespace);
        if let Some((id, exists)) = namespace.map(KvNamespace::identity) {
            entries.namespaces.insert(id, exists);
        }
        let (mut parent, mut keys, mut bytes) = (root, Vec::new(), 0);
        for (tokens, block) in tokens.chunks(BLOCK).zip(blocks) {
            bytes += block.bytes();
            if bytes > self.max_bytes {
                break;
            }
            let key = BlockKey { parent, tokens: tokens.into() };
            parent = Parent::Block(entries.id_or_insert(&key, root, block));
            keys.push(key);
        }
        entries.mark_used(keys);
        while entries.bytes > self.max_bytes {
            let Some(oldest) = entries.by_use.first_key_value().map(|(_, key)| key.clone()) else { break };
            entries.remove(&oldest);
        }
    }
}

fn root(namespace: Option<&KvNamespace>) -> Parent {
    namespace.map_or(Parent::Base, |namespace| Parent::Namespace(namespace.identity().0))
}

impl<T: Real> Entries<T> {
    /// The id of a block, which is kept from now on, in place of an earlier one of the same tokens.
    fn id_or_insert(&mut self, key: &BlockKey, root: Parent, block: &Arc<PromptBlock<T>>) -> u64 {
        if let Some(entry) = self.blocks.get_mut(key) {
            entry.block = block.clone();
            return entry.id;
        }
        let id = self.created;
        self.created += 1;
        self.uses += 1;
        self.bytes += block.bytes();
        self.by_use.insert(self.uses, key.clone());
        self.blocks.insert(key.clone(), Entry { id, root, last_use: self.uses, block: block.clone() });
        id
    }

    /// The last block first, so that a block is dropped before those that come before it: without them it cannot be found.
    fn mark_used(&mut self, keys: Vec<BlockKey>) {
        for key in keys.into_iter().rev() {
            if let Some(entry) = self.blocks.get_mut(&key) {
                self.uses += 1;
                self.by_use.remove(&entry.last_use);
                entry.last_use = self.uses;
                self.by_use.insert(self.uses, key);
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
        let is_ended = |entry: &Entry<T>| matches!(entry.root, Parent::Namespace(id) if !namespaces.contains_key(&id));
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
    use super::*;

    const WIDTH: usize = 4;

    /// The blocks of a prompt of one layer.
    fn blocks(tokens: &[u32]) -> Vec<Arc<PromptBlock<f32>>> {
        let block = |tokens: &[u32]| {
            let output = Array2::from_elem((tokens.len(), WIDTH), tokens[0] as f32);
            Arc::new(PromptBlock { caches: vec![KvCache::empty(WIDTH)], output, adapter: None })
        };
        tokens.chunks(BLOCK).map(block).collect()
    }

    fn prompt(first: u32) -> Vec<u32> {
        (first..first + 2 * BLOCK as u32 + 5).collect()
    }

    fn bytes(tokens: usize) -> usize {
        tokens * (WIDTH + 1) * 4
    }

    fn found(cache: &PromptCache<f32>, namespace: Option<&KvNamespace>, first: u32) -> usize {
        cache.find(namespace, &prompt(first)).iter().map(|block| block.output.nrows()).sum()
    }

    fn size(cache: &PromptCache<f32>) -> (usize, usize) {
        let entries = cache.entries.lock();
        assert_eq!(entries.blocks.len(), entries.by_use.len());
        (entries.blocks.len(), entries.bytes)
    }

    #[test]
    fn the_oldest_prompts_are_dropped_from_their_ends() {
        // Room for two prompts of 69 tokens, and one block more.
        let cache = PromptCache::new(bytes(2 * 69 + BLOCK));
        for first in [0, 1000, 0, 2000] {
            cache.insert(None, &prompt(first), &blocks(&prompt(first)));
        }
        // The beginning of the second prompt is left.
        assert_eq!([0, 1000, 2000].map(|first| found(&cache, None, first)), [69, 32, 69]);
        assert_eq!(size(&cache), (7, bytes(2 * 69 + BLOCK)));
        for first in 0..1000 {
            cache.insert(None, &prompt(first * 100), &blocks(&prompt(first * 100)));
            assert!(size(&cache).1 <= bytes(2 * 69 + BLOCK));
        }
        assert_eq!(found(&cache, None, 99_900), 69);
    }

    #[test]
    fn a_larger_prompt_keeps_its_beginning() {
        let cache = PromptCache::new(bytes(40));
        cache.insert(None, &prompt(0), &blocks(&prompt(0)));
        assert_eq!((found(&cache, None, 0), size(&cache)), (32, (1, bytes(32))));
        let none = PromptCache::new(0);
        none.insert(None, &prompt(0), &blocks(&prompt(0)));
        assert_eq!((found(&none, None, 0), size(&none)), (0, (0, 0)));
    }

    #[test]
    fn the_blocks_of_ended_namespaces_are_dropped() {
        let cache = PromptCache::new(usize::MAX);
        let [first, second] = [KvNamespace::new(), KvNamespace::new()];
        for namespace in [Some(&first), Some(&second), None] {
            cache.insert(namespace, &prompt(0), &blocks(&prompt(0)));
        }
        assert_eq!(size(&cache).0, 9);
        drop(first);
        cache.insert(Some(&second), &prompt(0), &blocks(&prompt(0)));
        assert_eq!(size(&cache).0, 6);
        assert_eq!((found(&cache, Some(&second), 0), found(&cache, None, 0)), (69, 69));
        assert_eq!(found(&cache, Some(&KvNamespace::new()), 0), 0);
    }
}
