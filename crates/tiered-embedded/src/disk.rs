//! Errors of the operating system, in our words.

use std::io;

use tiered_core::{Error, ErrorKind};

/// What an error of the operating system means for a database on disk.
pub fn io_kind(kind: io::ErrorKind) -> (ErrorKind, &'static str) {
    match kind {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "there is no such file or folder; create it first"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::PermissionDenied, "the operating system forbids it; grant the permission")
        }
        io::ErrorKind::NotADirectory => (ErrorKind::NotFound, "a part of the path is no folder"),
        io::ErrorKind::IsADirectory => (ErrorKind::Foreign, "the path is a folder; name a file"),
        io::ErrorKind::InvalidData => {
            (ErrorKind::Foreign, "the file is no database; name another, it was not touched")
        }
        io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Corrupt, "the file is cut short; restore it from another tier or a backup")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => {
            (ErrorKind::Locked, "another process or handle has it open; close it there")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::Full, "there is no room on the disk; free some")
        }
        _ => (ErrorKind::Unavailable, "the disk failed"),
    }
}

/// An error of the operating system, in our words.
pub fn io_error(error: io::Error) -> Error {
    let (kind, message) = io_kind(error.kind());
    Error::new(kind, message).with_source(error)
}
