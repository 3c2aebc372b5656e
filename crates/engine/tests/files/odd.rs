//! A tree with everything in it that file systems allow and programs forget.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

use crate::world::{is_root, noise};

/// What a sparse file's first hole spans.
pub const HOLE: u64 = 8 << 20;

pub fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn own(path: &Path, uid: u32, gid: u32) {
    if is_root() {
        lchown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Builds the tree. Modes and times of folders come last, as making files changes them.
pub fn build(root: &Path) {
    contents(root);
    names(root);
    sparse(root);
    links(root);
    modes_and_owners(root);
    attributes(root);
    times(root);
}

fn contents(root: &Path) {
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("one byte"), b"x").unwrap();
    fs::write(root.join("large"), noise(1, (9 << 20) + 17)).unwrap();
    fs::write(root.join("chunk exactly"), noise(2, 4 << 20)).unwrap();
    fs::write(root.join("equal one"), noise(3, 70_000)).unwrap();
    fs::write(root.join("equal two"), noise(3, 70_000)).unwrap();
    fs::write(root.join("text"), "the same line again\n".repeat(10_000)).unwrap();
    fs::create_dir_all(root.join("a/b/c/d/e/f/g/h")).unwrap();
    fs::write(root.join("a/b/c/d/e/f/g/h/deep"), "deep").unwrap();
    // Sorts between `a` and `a/b` where whole paths are compared by value.
    fs::write(root.join("a-b"), "beside").unwrap();
    fs::write(root.join("a/b/leaf"), "leaf").unwrap();
    fs::create_dir_all(root.join("empty folder/empty too")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("many/{number}")), format!("number {number}")).unwrap();
    }
    rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::from_raw_mode(0o620)).unwrap();
}

fn names(root: &Path) {
    let folder = root.join("names");
    fs::create_dir(&folder).unwrap();
    let long = [b'n'; 255];
    let names: [&[u8]; 13] = [
        b"spaces in  it ",
        b" leading",
        b"new\nline",
        b"tab\tand\x01control\x7f",
        b"not\xffutf\xc38",
        b"\x80",
        b"-dash",
        b"...",
        b"back\\slash",
        b"quote'\"`$(x)",
        "ümläut und 日本".as_bytes(),
        b"*?[glob]",
        &long,
    ];
    for (number, name) in names.into_iter().enumerate() {
        fs::write(folder.join(OsStr::from_bytes(name)), number.to_string()).unwrap();
    }
    let odd = folder.join(OsStr::from_bytes(b"folder\xfe\n"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(OsStr::from_bytes(b"\xfd")), "inside").unwrap();
    symlink(OsStr::from_bytes(b"\xfctarget\n"), odd.join("link")).unwrap();
}

/// Files with holes, by what comes before, between and after them.
pub fn sparse_files(root: &Path) -> Vec<PathBuf> {
    ["begins", "between", "ends", "only a hole"].iter().map(|name| root.join("sparse").join(name)).collect()
}

fn sparse(root: &Path) {
    fs::create_dir(root.join("sparse")).unwrap();
    let file = |name| fs::File::create(root.join("sparse").join(name)).unwrap();
    let data = noise(4, 20_000);
    file("begins").write_all_at(&data, HOLE).unwrap();
    let between = file("between");
    between.write_all_at(&data, 0).unwrap();
    between.write_all_at(&data, HOLE).unwrap();
    let ends = file("ends");
    ends.write_all_at(&data, 0).unwrap();
    ends.set_len(3 * HOLE + 1).unwrap();
    file("only a hole").set_len(2 * HOLE).unwrap();
}

fn links(root: &Path) {
    fs::create_dir(root.join("links")).unwrap();
    let link = |target: &str, name: &str| symlink(target, root.join("links").join(name)).unwrap();
    link("nowhere/at all", "dangling");
    link("/etc/passwd", "absolute");
    link("../a", "to a folder");
    link("..", "up");
    link("itself", "itself");
    link(&"x/".repeat(2000), "long");
    set_mtime(&root.join("links/dangling"), 1_000_000_007, 1);
    own(&root.join("links/absolute"), 4321, 1234);
    fs::hard_link(root.join("one byte"), root.join("links/second name")).unwrap();
}

fn modes_and_owners(root: &Path) {
    fs::create_dir(root.join("modes")).unwrap();
    for mode in [0o000, 0o200, 0o400, 0o444, 0o600, 0o666, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777] {
        // Nobody but root reads what nobody may read.
        if is_root() || mode & 0o400 != 0 {
            let path = root.join(format!("modes/{mode:04o}"));
            fs::write(&path, format!("mode {mode:o}")).unwrap();
            own(&path, 12_345, 54_321);
            set_mode(&path, mode);
        }
    }
    for mode in [0o1777, 0o2775, 0o700, 0o555] {
        let path = root.join(format!("modes/folder {mode:04o}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "inside").unwrap();
        own(&path, 0x7fff_fffe, 7);
        set_mode(&path, mode);
    }
    own(&root.join("pipe"), 65_533, 65_532);
    own(&root.join("equal two"), 999, 999);
}

fn attributes(root: &Path) {
    fs::create_dir(root.join("attributes")).unwrap();
    let file = root.join("attributes/file");
    fs::write(&file, "with attributes").unwrap();
    xattr::set(&file, "user.text", b"a value").unwrap();
    xattr::set(&file, "user.binary", &[0, 255, 10, 0]).unwrap();
    xattr::set(&file, "user.empty", b"").unwrap();
    xattr::set(&file, "user.long", &noise(5, 1000)).unwrap();
    xattr::set(root.join("attributes"), "user.folder", b"folders too").unwrap();
    xattr::set(root.join("empty"), "user.on.empty", b"yes").unwrap();
    if is_root() {
        xattr::set(root.join("attributes"), "trusted.lifeboat", b"for root alone").unwrap();
        // On a file that nobody may write: attributes must not depend on the mode.
        xattr::set(root.join("modes/4755"), "user.setuid", b"kept").unwrap();
        xattr::set(root.join("links/dangling"), "trusted.link", b"on the link itself").unwrap();
    }
}

fn times(root: &Path) {
    fs::create_dir(root.join("times")).unwrap();
    for (name, seconds, nanos) in [
        ("nanoseconds", 1_700_000_000, 123_456_789),
        ("almost the next second", 1_700_000_000, 999_999_999),
        ("the epoch", 0, 0),
        ("before the epoch", -1, 999_999_999),
        ("long before", -86_400 * 365, 500),
        ("far ahead", 4_102_444_800, 1),
    ] {
        let path = root.join("times").join(name);
        fs::write(&path, name).unwrap();
        set_mtime(&path, seconds, nanos);
    }
    for (name, seconds, nanos) in [
        ("empty folder/empty too", 11, 22),
        ("empty folder", 33, 44),
        ("a/b", 1_234_567_890, 987_654_321),
        ("a", -5, 5),
        ("modes/folder 0555", 77, 7),
        ("pipe", 55, 5),
        ("", 1_600_000_000, 42),
    ] {
        set_mtime(&root.join(name), seconds, nanos);
    }
}
