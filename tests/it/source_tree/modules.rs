//! The modules of a crate as a graph: a node for each file, an arrow for each use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{in_package, rust_files, uses};

/// A module's path below the crate's root: empty for the root itself.
pub(super) type Module = Vec<String>;

pub(super) struct Modules {
    uses: BTreeMap<Module, BTreeSet<Module>>,
}

impl Modules {
    /// The crate whose root is this file. Files of unit tests alone are left out.
    pub(super) fn read(directory: &str, root: &str) -> Self {
        let base = in_package(directory);
        let mut sources = BTreeMap::new();
        for file in rust_files(directory) {
            let relative = file.strip_prefix(&base).unwrap().with_extension("");
            let mut module: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            let name = module.last().unwrap();
            if module[0] == "bin" || name.ends_with("tests") || name.starts_with("test") {
                continue;
            }
            if name == "mod" || (name == root && module.len() == 1) {
                module.pop();
            }
            sources.insert(module, fs::read_to_string(&file).unwrap());
        }
        let uses = sources.keys().map(|module| (module.clone(), used_by(module, &sources))).collect();
        Modules { uses }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Module> {
        self.uses.keys()
    }

    /// Every use of one module by another.
    pub(super) fn arrows(&self) -> impl Iterator<Item = (&Module, &Module)> {
        self.uses.iter().flat_map(|(module, used)| used.iter().map(move |used| (module, used)))
    }

    /// The modules that use each other in a circle. The files of a folder may use what its `mod.rs` defines: such an
    /// arrow does not count.
    pub(super) fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            self.uses.keys().map(|module| (module, self.reachable(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in &reach {
            let circle: Vec<String> =
                reached.iter().filter(|other| reach[*other].contains(module)).map(|m| m.join("/")).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reachable<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for used in self.uses[module].iter().filter(|used| !module.starts_with(used)) {
                if reached.insert(used) {
                    next.push(used);
                }
            }
        }
        reached
    }
}

fn used_by(module: &Module, sources: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let children: Vec<&str> = sources
        .keys()
        .filter(|other| other.len() == module.len() + 1 && other.starts_with(module))
        .map(|child| child[child.len() - 1].as_str())
        .collect();
    let mut used = BTreeSet::new();
    for path in uses::paths(&sources[module], &children) {
        let mut target = module.clone();
        for segment in path {
            match segment.as_str() {
                "crate" => target.clear(),
                "super" => drop(target.pop()),
                _ => target.push(segment),
            }
        }
        while !sources.contains_key(&target) {
            target.pop();
        }
        if target != *module {
            used.insert(target);
        }
    }
    used
}
