//! `import git`, and walks over what it stored: what git itself says is reachable, no more and no less.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::place::Place;

/// Runs git in a repository; what it prints.
fn git(dir: &Path, arguments: &[&str]) -> String {
    feed(dir, arguments, "")
}

fn feed(dir: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "safe.directory=*"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is installed");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("fed");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The ids that git lists.
fn ids(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn keys(place: &Place, store: &str) -> BTreeSet<String> {
    place.run(&["--store", store, "list"]).ends(0).text().lines().map(str::to_owned).collect()
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    serde_json::from_str(place.run(arguments).ends(0).text().trim()).expect("JSON")
}

fn count(counts: &Value, name: &str) -> u64 {
    counts.get(name).and_then(Value::as_u64).expect("a count")
}

fn import(place: &Place, dir: &Path, to: &str) -> Value {
    json(place, &["import", "git", &dir.display().to_string(), "--to", to, "--json"])
}

fn walk(place: &Place, from: &str, to: &str, root: &str) -> Value {
    json(place, &["walk", "--from", from, "--to", to, "--format", "git", "--root", root, "--json"])
}

/// Merges, a tag of a tag, a submodule, objects in packs and beside them, and garbage.
fn repository(dir: &Path) {
    std::fs::create_dir_all(dir.join("sub")).expect("made");
    git(dir, &["init", "--quiet", "--initial-branch", "main"]);
    let commit = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).expect("written");
        git(dir, &["add", "--all"]);
        git(dir, &["commit", "--quiet", "--message", name]);
    };
    commit("one", "1");
    commit("sub/two", "2");
    git(dir, &["gc", "--quiet"]);
    git(dir, &["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    commit("three", "3");
    git(dir, &["checkout", "--quiet", "main"]);
    git(dir, &["merge", "--quiet", "--message", "merged", "side"]);
    let other = "0123456789012345678901234567890123456789";
    git(dir, &["update-index", "--add", "--cacheinfo", &format!("160000,{other},module")]);
    git(dir, &["commit", "--quiet", "--message", "a submodule"]);
    git(dir, &["tag", "--annotate", "--message", "first", "v1", "HEAD~1"]);
    git(dir, &["tag", "--annotate", "--message", "of a tag", "v1-again", "v1"]);
    git(dir, &["tag", "light", "side"]);
    commit("sub/two", "changed");
    // Nothing refers to it.
    feed(dir, &["hash-object", "-w", "--stdin"], "garbage");
}

#[test]
fn what_is_imported_and_walked_is_what_git_reaches() {
    let place = Place::new();
    let dir = place.path("repository");
    repository(&dir);
    let all = place.url("all.redb");
    let imported = import(&place, &dir, &all);
    let objects = ids(&git(&dir, &["cat-file", "--batch-all-objects", "--batch-check"]));
    let references = ids(&git(&dir, &["for-each-ref", "--format=%(refname)"]));
    assert_eq!(count(&imported, "objects"), objects.len() as u64);
    assert_eq!(count(&imported, "references"), references.len() as u64 + 1, "and HEAD");
    let head = BTreeSet::from(["HEAD".to_owned()]);
    let expected: BTreeSet<String> = objects.iter().chain(&references).chain(&head).cloned().collect();
    assert_eq!(keys(&place, &all), expected);
    let again = import(&place, &dir, &all);
    assert_eq!((count(&again, "imported"), count(&again, "present")), (0, objects.len() as u64));
    for root in ["main", "HEAD", "side", "v1", "v1-again", "light", "refs/heads/main~0"] {
        let id = git(&dir, &["rev-parse", root]).trim().to_owned();
        let reached = ids(&git(&dir, &["rev-list", "--objects", root]));
        let to = place.url(&format!("{}.redb", root.replace('/', "-")));
        let walked = walk(&place, &all, &to, &id);
        assert_eq!(keys(&place, &to), reached, "{root}");
        assert_eq!(count(&walked, "reachable"), reached.len() as u64);
    }
    // By name: the reference comes last, and so does what it names.
    let to = place.url("by-name.redb");
    walk(&place, &all, &to, "main");
    let reached = ids(&git(&dir, &["rev-list", "--objects", "main"]));
    let main = "refs/heads/main".to_owned();
    assert_eq!(keys(&place, &to), reached.into_iter().chain([main]).collect());
    let unknown =
        place.run(&["walk", "--from", &all, "--to", &to, "--format", "git", "--root", "mian"]).ends(2);
    assert!(unknown.errors().contains("mian"));
    place.run(&["import", "git", &place.path("").display().to_string(), "--to", &to]).ends(2);
    // What no reference reaches is garbage; git's own rule.
    let gc = [
        "--store",
        &all,
        "gc",
        "--roots-under",
        "refs/",
        "--roots-under",
        "HEAD",
        "--references",
        "git",
        "--apply",
    ];
    place.run(&gc).ends(0);
    place.run(&gc).ends(0);
    let reached = ids(&git(&dir, &["rev-list", "--objects", "--all"]));
    let kept: BTreeSet<String> =
        keys(&place, &all).into_iter().filter(|key| !key.starts_with("tiered.gc/")).collect();
    assert_eq!(kept, reached.into_iter().chain(references).chain(head).collect());
}

#[test]
fn the_history_of_this_repository_is_walked_as_git_does() {
    let place = Place::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let id = git(&here, &["rev-parse", "HEAD"]).trim().to_owned();
    let (all, to) = (place.url("all.redb"), place.url("to.redb"));
    if git(&here, &["rev-parse", "--is-shallow-repository"]).trim() == "true" {
        refused_as_shallow(&place, &here, &all);
        return;
    }
    import(&place, &here, &all);
    let walked = walk(&place, &all, &to, &id);
    let reached = ids(&git(&here, &["rev-list", "--objects", "HEAD"]));
    assert_eq!(count(&walked, "reachable"), reached.len() as u64);
    assert_eq!(count(&walked, "copied"), reached.len() as u64);
    assert_eq!(keys(&place, &to), reached);
}

fn refused_as_shallow(place: &Place, dir: &Path, to: &str) {
    place.run(&["import", "git", &dir.display().to_string(), "--to", to]).ends(2).says("--unshallow");
}

#[test]
fn a_shallow_clone_is_refused() {
    let place = Place::new();
    let dir = place.path("repository");
    repository(&dir);
    let url = format!("file://{}", dir.display());
    git(place.folder(), &["clone", "--quiet", "--depth", "1", &url, "shallow"]);
    refused_as_shallow(&place, &place.path("shallow"), &place.url("to.redb"));
    assert!(!place.path("to.redb").exists(), "nothing is made");
}

/// Commits of the large repository, each of which changes so many files.
const COMMITS: usize = 500;
const FILES: usize = 150;

/// 100,000 objects and more, by `fast-import`.
fn large(dir: &Path) {
    std::fs::create_dir_all(dir).expect("made");
    git(dir, &["init", "--quiet", "--bare"]);
    let mut stream = String::new();
    for commit in 0..COMMITS {
        write!(stream, "commit refs/heads/main\ncommitter A <a@example.com> {commit} +0000\ndata 0\n")
            .expect("a string");
        for file in 0..FILES {
            let text = format!("{commit} {file}\n");
            let (folder, file) = (file % 50, file / 50);
            write!(stream, "M 644 inline {folder}/{file}\ndata {}\n{text}", text.len()).expect("a string");
        }
        stream.push('\n');
    }
    feed(dir, &["fast-import", "--quiet"], &stream);
}

#[test]
fn a_repository_of_a_hundred_thousand_objects_is_walked_as_git_does() {
    let place = Place::new();
    let dir = place.path("large.git");
    large(&dir);
    let reached = ids(&git(&dir, &["rev-list", "--objects", "main"]));
    assert!(reached.len() > 100_000, "{}", reached.len());
    let (all, to) = (place.url("all.redb"), place.url("to.redb"));
    assert_eq!(count(&import(&place, &dir, &all), "imported"), reached.len() as u64);
    let id = git(&dir, &["rev-parse", "main"]).trim().to_owned();
    assert_eq!(count(&walk(&place, &all, &to, &id), "copied"), reached.len() as u64);
    assert_eq!(keys(&place, &to), reached);
}
