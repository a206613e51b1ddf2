//! The layers of the library. The picture in `docs/architecture.md` is the list that is checked.

use std::collections::BTreeMap;
use std::fs;

use super::in_package;
use super::modules::Modules;

/// The modules of each layer in the picture, from the top: `│ module module │ what it is for │`.
fn layers() -> Vec<Vec<String>> {
    let page = fs::read_to_string(in_package("docs/architecture.md")).unwrap();
    let (_, picture) = page.split_once("```text\n").unwrap();
    let (picture, _) = picture.split_once("```").unwrap();
    let rows = picture.lines().filter_map(|line| line.strip_prefix("│ "));
    rows.map(|row| row.split('│').next().unwrap().split_whitespace().map(str::to_owned).collect()).collect()
}

fn level_of() -> BTreeMap<String, usize> {
    layers()
        .into_iter()
        .rev()
        .enumerate()
        .flat_map(|(level, modules)| modules.into_iter().map(move |module| (module, level)))
        .collect()
}

#[test]
fn every_module_is_in_the_picture() {
    let level_of = level_of();
    let library = Modules::read("src", "lib");
    let modules: Vec<&str> = library.names().filter(|path| path.len() == 1).map(|path| path[0].as_str()).collect();
    assert!(modules.len() > 10, "{modules:?}");
    for module in &modules {
        assert!(level_of.contains_key(*module), "{module} is not in docs/architecture.md");
    }
    for module in level_of.keys().filter(|module| *module != "bin/tinkex") {
        assert!(modules.contains(&module.as_str()), "{module} is in docs/architecture.md, but not in src");
    }
}

#[test]
fn arrows_between_modules_go_down() {
    let level_of = level_of();
    let mut upward = Vec::new();
    for (from, to) in Modules::read("src", "lib").arrows() {
        let (Some(module), Some(used)) = (from.first(), to.first()) else {
            // The root declares the modules. Nothing but a fixed path may be taken from it: `crate::error::Error`.
            if !from.is_empty() {
                upward.push(format!("{} uses a name of the crate's root; name its module", from.join("/")));
            }
            continue;
        };
        if module != used && level_of[used] >= level_of[module] {
            upward.push(format!("{} uses {}", from.join("/"), to.join("/")));
        }
    }
    assert!(upward.is_empty(), "arrows that do not go down:\n{}", upward.join("\n"));
}

#[test]
fn no_modules_form_a_circle() {
    for (directory, root) in [("src", "lib"), ("src/bin/tinkex", "main")] {
        let circles = Modules::read(directory, root).circles();
        assert!(circles.is_empty(), "circles in {directory}: {circles:#?}");
    }
}
