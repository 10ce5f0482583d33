//! What a build of everything needs beside cargo: a C++ compiler and libclang, for RocksDB.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stage;

/// The packages by package manager: what is asked for, and the command that installs it.
const MANAGERS: [(&str, &[&str]); 5] = [
    ("apt-get", &["install", "--yes", "clang", "libclang-dev"]),
    ("dnf", &["install", "--assumeyes", "clang", "clang-devel"]),
    ("apk", &["add", "clang", "clang-dev", "g++"]),
    ("pacman", &["--sync", "--noconfirm", "clang"]),
    ("brew", &["install", "llvm"]),
];

/// Installs what is missing where that is allowed, else says what to type.
pub(crate) fn run() -> Result<(), String> {
    if libclang().is_some() && (runs("clang++") || runs("c++")) {
        return Ok(());
    }
    println!("--- set-up: RocksDB needs a C++ compiler and libclang");
    let Some((manager, arguments)) = MANAGERS.into_iter().find(|(manager, _)| runs(manager)) else {
        return Err("install clang and libclang, or set LIBCLANG_PATH to the folder of libclang".to_owned());
    };
    install(manager, arguments)?;
    libclang()
        .map(|_| ())
        .ok_or_else(|| "libclang was installed and not found; set LIBCLANG_PATH to its folder".to_owned())
}

/// Installs the package of a program that is missing, which has the same name everywhere.
pub(crate) fn package(program: &str, name: &'static str) -> Result<(), String> {
    if runs(program) {
        return Ok(());
    }
    println!("--- set-up: {program} is missing");
    let Some((manager, arguments)) = MANAGERS.into_iter().find(|(manager, _)| runs(manager)) else {
        return Err(format!("install {name}"));
    };
    // What the manager is asked for stands between its options and its packages.
    let options = arguments
        .iter()
        .copied()
        .filter(|word| *word == "install" || *word == "add" || word.starts_with('-'));
    let arguments: Vec<&str> = options.chain([name]).collect();
    install(manager, &arguments)
}

fn install(manager: &str, arguments: &[&str]) -> Result<(), String> {
    // Homebrew refuses to run as root; the others want it.
    let prefix: &[&str] = match manager {
        "brew" => &[],
        _ if is_root() => &[],
        _ if allowed(&["sudo", "--non-interactive", "true"]) => &["sudo", "--non-interactive"],
        _ => return Err(format!("type: sudo {manager} {}", arguments.join(" "))),
    };
    let run = |arguments: &[&str]| {
        let mut words = prefix.iter().copied().chain([manager]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        stage::run(&format!("{manager} {}", arguments.join(" ")), command)
    };
    if manager == "apt-get" {
        run(&["update", "--quiet"])?;
    }
    run(arguments).map(drop)
}

/// The compilers for C and C++: clang where it is there, which builds RocksDB in two thirds of the time. Always the
/// same for one machine, since another compiler builds it again.
pub(crate) fn compilers(command: &mut Command) {
    if runs("clang++") {
        for (name, compiler) in [("CC", "clang"), ("CXX", "clang++")] {
            if env::var_os(name).is_none() {
                command.env(name, compiler);
            }
        }
    }
}

/// Where libclang is: bindgen looks in the same places.
fn libclang() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().collect();
    for root in
        ["/usr/lib", "/usr/local/lib", "/usr/lib64", "/opt/homebrew/opt/llvm/lib", "/usr/local/opt/llvm/lib"]
    {
        folders.push(root.into());
        let inside = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(inside.flat_map(|folder| [folder.join("lib"), folder]));
    }
    folders.into_iter().find(|folder| {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang") && !name.starts_with("libclang-cpp") && name.contains(".so")
                || name == "libclang.dylib"
        })
    })
}

fn runs(program: &str) -> bool {
    allowed(&[program, "--version"])
}

fn allowed(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
