//! The copy of the tree that mutants are made in: always in `target/mutants`, with a target folder of its own.
//!
//! Its own, since cargo names what it builds by the path within the workspace: two trees in one target folder take
//! each other's artifacts for fresh. Invariant: the tree itself is only read; a file of the copy is written when its
//! text differs and not otherwise, since cargo goes by the times of files.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::catalog::Texts;

/// At the top of the tree, and no part of it.
const APART: [&str; 2] = ["target", ".git"];

/// Makes `copy` what `tree` is, but for these texts. A tree without git, as from an archive, has a copy too.
pub(crate) fn renew(tree: &Path, copy: &Path, texts: &Texts) -> io::Result<()> {
    renew_folder(tree, copy, "", texts)
}

fn renew_folder(tree: &Path, copy: &Path, folder: &str, texts: &Texts) -> io::Result<()> {
    let to = copy.join(folder);
    if to.is_file() {
        fs::remove_file(&to)?;
    }
    fs::create_dir_all(&to)?;
    let mut names = HashSet::new();
    for entry in tree.join(folder).read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        if folder.is_empty() && APART.iter().any(|apart| name == *apart) {
            continue;
        }
        let path = match folder {
            "" => name.to_string_lossy().into_owned(),
            _ => format!("{folder}/{}", name.to_string_lossy()),
        };
        if entry.file_type()?.is_dir() {
            renew_folder(tree, copy, &path, texts)?;
        } else {
            renew_file(&entry.path(), &copy.join(&path), texts.get(&path))?;
        }
        names.insert(name);
    }
    remove_others(&to, &names)
}

fn renew_file(from: &Path, to: &Path, text: Option<&String>) -> io::Result<()> {
    if to.is_dir() {
        fs::remove_dir_all(to)?;
    }
    let wanted = match text {
        Some(text) => text.clone().into_bytes(),
        None => fs::read(from)?,
    };
    if fs::read(to).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    fs::write(to, wanted)?;
    fs::set_permissions(to, from.metadata()?.permissions())
}

/// Files of the copy that are other while this lives. They get their text and time back, so that cargo builds nothing
/// anew for them.
pub(crate) struct Altered(Vec<(PathBuf, Vec<u8>, SystemTime)>);

impl Altered {
    pub(crate) fn write(copy: &Path, texts: &Texts) -> io::Result<Self> {
        let mut altered = Self(Vec::new());
        for (file, text) in texts {
            let path = copy.join(file);
            let kept = (fs::read(&path)?, path.metadata()?.modified()?);
            altered.0.push((path.clone(), kept.0, kept.1));
            fs::write(path, text)?;
        }
        Ok(altered)
    }
}

impl Drop for Altered {
    fn drop(&mut self) {
        for (path, text, modified) in &self.0 {
            // What cannot be put back is found by the next run, which renews the copy.
            let _ = fs::write(path, text).and_then(|()| set_modified(path, *modified));
        }
    }
}

fn set_modified(path: &Path, modified: SystemTime) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .set_modified(modified)
}

fn remove_others(folder: &Path, names: &HashSet<std::ffi::OsString>) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Spares the first build the crates of others: takes over what is built of them in the tree's own target folder,
/// with its times. What does not fit the copy is simply built again.
pub(crate) fn take_over(built: &Path, target: &Path) -> io::Result<()> {
    if target.exists() || !built.is_dir() {
        return Ok(());
    }
    // Complete or not at all: cargo does not look for missing parts.
    let half = target.with_extension("half");
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    let profile = half.join("debug");
    fs::create_dir_all(&profile)?;
    let mut own = HashSet::new();
    for entry in built.join(".fingerprint").read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("catalyst") {
            own.extend(name.rsplit_once('-').map(|(_, hash)| hash.to_owned()));
        }
    }
    for folder in [".fingerprint", "build", "deps"] {
        take_over_all(&built.join(folder), &profile.join(folder), &own)?;
    }
    fs::rename(half, target)
}

fn take_over_all(from: &Path, to: &Path, own: &HashSet<String>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let stem = text.split('.').next().unwrap_or_default();
        if stem
            .rsplit_once('-')
            .is_some_and(|(_, hash)| own.contains(hash))
        {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            take_over_all(&entry.path(), &target, own)?;
        } else {
            fs::copy(entry.path(), &target)?;
            set_modified(&target, entry.metadata()?.modified()?)?;
        }
    }
    let modified = from.metadata()?.modified()?;
    File::open(to)?.set_modified(modified)
}
