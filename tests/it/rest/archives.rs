//! Archives that are damaged, hostile or unusual.

use std::collections::BTreeMap;
use std::fs;

use tar::EntryType;
use tinkex::rest::DownloadOptions;
use tinkex::{Error, ErrorKind};

use super::scene::{Scene, archive, file, gzip, member, noise, tar, unpacked, whole};

/// Downloads this archive.
fn download(
    bytes: Vec<u8>,
    options: impl FnOnce(DownloadOptions<'static>) -> DownloadOptions<'static>,
) -> (Scene, Result<Option<u64>, Error>) {
    let scene = Scene::new(move |_, _| whole(bytes.clone(), "\"a\""));
    let options = options(DownloadOptions::new(scene.out()));
    let downloaded = scene.rest().download_checkpoint_archive("run", "weights/a", options);
    (scene, downloaded.map(|downloaded| downloaded.files))
}

#[test]
fn gzip_is_detected_by_its_first_bytes() {
    let members = [file("a", b"1"), file("./b/c", b"2"), member(b"./", EntryType::Directory, b"")];
    for bytes in
        [tar(&members), gzip(&tar(&members)), [gzip(&tar(&members)[..700]), gzip(&tar(&members)[700..])].concat()]
    {
        let (scene, files) = download(bytes, |options| options);
        assert_eq!(files.unwrap(), Some(2));
        let expected = [("out", None), ("out/a", Some("1")), ("out/b", None), ("out/b/c", Some("2"))];
        let expected: BTreeMap<_, _> =
            expected.map(|(name, content)| (name.to_owned(), content.map(|text| text.as_bytes().to_vec()))).into();
        assert_eq!(scene.directory.tree(), expected);
    }
}

#[test]
fn long_names_and_global_headers_are_read() {
    let long = format!("{}/name", "d".repeat(200));
    let gnu = [member(b"././@LongLink", EntryType::GNULongName, format!("{long}\0").as_bytes()), file("short", b"1")];
    let record = |text: String| format!("{} {text}\n", text.len() + 2 + (text.len() + 5).to_string().len());
    let pax = [
        member(b"global", EntryType::XGlobalHeader, record("comment=x".to_owned()).as_bytes()),
        member(b"pax", EntryType::XHeader, record(format!("path={long}")).as_bytes()),
        file("short", b"1"),
    ];
    for members in [&gnu[..], &pax[..]] {
        let (scene, files) = download(tar(members), |options| options);
        assert_eq!(files.unwrap(), Some(1));
        assert_eq!(fs::read(scene.out().join(&long)).unwrap(), b"1");
    }
}

/// A member with these bytes as the size in its header.
fn sized(kind: EntryType, size: &[u8; 12]) -> Vec<u8> {
    let mut bytes = member(b"evil", kind, b"");
    bytes[124..136].copy_from_slice(size);
    summed(bytes)
}

/// With the checksum of its header corrected.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..512]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[test]
fn sizes_in_pax_and_base_256_count() {
    let pax = member(b"pax", EntryType::XHeader, b"10 size=2\n");
    let mut small = file("a", b"12");
    small[124..136].copy_from_slice(b"00000000000\0");
    let mut binary = file("a", b"12");
    binary[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\0\x02");
    for members in [[pax, summed(small)].concat(), summed(binary)] {
        let (scene, files) = download(tar(&[members, file("b", b"3")]), |options| options);
        assert_eq!(files.unwrap(), Some(2));
        assert_eq!(fs::read(scene.out().join("a")).unwrap(), b"12");
    }
}

#[test]
fn a_member_that_leads_out_refuses_the_archive() {
    let bad_names: [&[u8]; 15] = [
        b"/tmp/tinkex-evil",
        b"../evil",
        b"a/../../evil",
        b"a/..",
        b"..",
        b"a\\..\\evil",
        b"\\\\host\\evil",
        b"C:evil",
        b"C:/evil",
        b"a/D:evil",
        b"evil\xff",
        // Names that Windows changes, and escape codes for a terminal.
        b"a/.. /evil",
        b"evil/...",
        b"evil\n",
        b"\x1b[2Jevil",
    ];
    let bad_kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::new(b'Z'),
    ];
    let members = bad_names.iter().map(|name| member(name, EntryType::Regular, b"evil"));
    let members = members.chain(bad_names.iter().map(|name| member(name, EntryType::Directory, b"")));
    let members = members.chain(bad_kinds.iter().map(|kind| member(b"evil", *kind, b"")));
    let members = members.chain([
        // Long names, as GNU tar and pax write them.
        [member(b"././@LongLink", EntryType::GNULongName, b"../evil\0"), file("good", b"")].concat(),
        [member(b"pax", EntryType::XHeader, b"16 path=../evil\n"), file("good", b"")].concat(),
        // The same name twice, and a file in place of a directory or vice versa.
        [file("evil", b"1"), file("evil", b"2")].concat(),
        [file("evil", b"1"), file("./evil", b"2")].concat(),
        file("first", b"1"),
        [file("evil", b"1"), file("evil/a", b"2")].concat(),
        [file("evil/a", b"1"), file("evil", b"2")].concat(),
        [file("evil", b"1"), member(b"evil/", EntryType::Directory, b"")].concat(),
        [file("evil", b"1"), member(b"evil/a/", EntryType::Directory, b"")].concat(),
        // A sparse file declared as a regular one, and invalid pax records.
        [member(b"pax", EntryType::XHeader, b"22 GNU.sparse.major=1\n"), file("evil", b"1")].concat(),
        [member(b"pax", EntryType::XHeader, b"999 path=evil\n"), file("good", b"1")].concat(),
        // Sizes: negative and overflowing in base 256, too large in octal digits, and empty.
        sized(EntryType::Regular, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x00"),
        sized(EntryType::Directory, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        sized(EntryType::Regular, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        sized(EntryType::Regular, b"77777777777\0"),
        sized(EntryType::Regular, b"-0000000001\0"),
        sized(EntryType::Regular, b"whatever!!!\0"),
        [member(b"pax", EntryType::XHeader, b"28 size=9223372036854775807\n"), file("evil", b"1")].concat(),
    ]);
    for (number, bad) in members.enumerate() {
        let (scene, files) =
            download(gzip(&tar(&[file("first", b"first"), bad, file("last", b"last")])), |options| options);
        let error = files.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{number}: {error}");
        assert_eq!(scene.directory.tree(), BTreeMap::new(), "{number}");
        assert!(
            !scene.directory.path().join("../evil").exists() && !fs::exists("/tmp/tinkex-evil").unwrap(),
            "{number}"
        );
    }
}

#[test]
fn an_archive_over_its_limits_is_refused() {
    let two = || gzip(&tar(&[file("a", &noise(600)), file("b", &noise(600))]));
    assert!(download(two(), |options| options.max_files(2)).1.is_ok());
    assert_eq!(download(two(), |options| options.max_files(1)).1.unwrap_err().kind(), ErrorKind::Decode);
    let two = || gzip(&tar(&[file("a", &[0; 6000]), file("b", &[0; 6000])]));
    assert!(download(two(), |options| options.max_bytes(12_000)).1.is_ok());
    assert_eq!(download(two(), |options| options.max_bytes(11_999)).1.unwrap_err().kind(), ErrorKind::Decode);

    let zeros = vec![0; 4 << 20];
    // A bomb: as a file, as a name, as the content of a directory, and after the end.
    let bombs = [
        tar(&[file("bomb", &zeros)]),
        tar(&[member(b"././@LongLink", EntryType::GNULongName, &zeros), file("a", b"")]),
        tar(&[member(b"pax", EntryType::XHeader, &zeros), file("a", b"")]),
        tar(&[member(b"a", EntryType::Directory, &zeros)]),
        [tar(&[file("a", b"")]), zeros].concat(),
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let bomb = gzip(&bomb);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let (scene, files) = download(bomb, |options| options.max_bytes(1 << 20));
        assert_eq!(files.unwrap_err().kind(), ErrorKind::Decode, "{number}");
        assert_eq!(scene.directory.tree(), BTreeMap::new(), "{number}");
    }
}

#[test]
fn an_oversized_archive_is_not_fetched() {
    let (scene, files) = download(archive(), |options| options.max_bytes(10_000));
    let error = files.unwrap_err();
    assert!(error.hint().unwrap().contains("max_bytes"), "{error}");
    assert_eq!((scene.storage.requests().len(), scene.directory.tree()), (1, BTreeMap::new()));
}

#[test]
fn a_damaged_archive_is_refused() {
    let good = archive();
    let plain = tar(&[file("a", &noise(2000))]);
    let members = [file("a", b"1"), file("b", b"2")].concat();
    let mut wrong_sum = good.clone();
    *wrong_sum.iter_mut().nth_back(6).unwrap() ^= 1;
    let mut wrong_header = plain.clone();
    wrong_header[3] ^= 1;
    for (what, bytes) in [
        ("nothing", vec![]),
        ("not an archive", b"<html>".to_vec()),
        ("not a tar file", gzip(b"<html>")),
        ("an empty tar file", tar(&[])),
        ("gzip truncated in a file", good[..good.len() / 2].to_vec()),
        ("gzip truncated at the end", good[..good.len() - 4].to_vec()),
        ("gzip with a wrong checksum", wrong_sum),
        ("tar truncated in a file", plain[..1500].to_vec()),
        ("tar with a wrong checksum", wrong_header),
        // As after a lost connection without a content length.
        ("tar truncated between two members", members.clone()),
        ("tar truncated between two members, with gzip", gzip(&members)),
        ("tar truncated after a file that ends in zeros", file("a", &[0; 2048])),
        ("tar truncated in its end", [&members[..], &[0; 100]].concat()),
        ("two tar files", [&plain[..], &plain[..]].concat()),
        ("two tar files with gzip", [gzip(&plain), gzip(&plain)].concat()),
        ("something after the end", [&plain[..], b"more"].concat()),
        ("something after gzip", [&good[..], b"more"].concat()),
    ] {
        let (scene, files) = download(bytes, |options| options);
        assert_eq!(files.unwrap_err().kind(), ErrorKind::Decode, "{what}");
        assert_eq!(scene.directory.tree(), BTreeMap::new(), "{what}");
    }
}

#[test]
fn an_archive_can_be_kept_unchanged() {
    let (scene, files) = download(b"whatever".to_vec(), |options| options.extract(false));
    assert_eq!(files.unwrap(), None);
    assert_eq!(fs::read(scene.out()).unwrap(), b"whatever");
    assert_eq!(scene.directory.tree().len(), 1);
    let (scene, _) = download(archive(), |options| options);
    assert_eq!(scene.directory.tree(), unpacked("out"));
}

#[cfg(unix)]
#[test]
fn unpacked_files_have_default_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let mut bytes = member(b"a", EntryType::Regular, b"1");
    bytes[100..108].copy_from_slice(b"0006777\0");
    let (scene, files) = download(tar(&[summed(bytes)]), |options| options);
    files.unwrap();
    fs::write(scene.directory.join("own"), "").unwrap();
    let mode = |name: &str| scene.directory.join(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("out/a"), mode("own"));
}
