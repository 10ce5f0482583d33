//! Maps errors of the operating system.

use std::io;

use tiered_core::{Error, ErrorKind};

/// What an error of the operating system means for a database on disk.
pub fn io_kind(kind: io::ErrorKind) -> (ErrorKind, &'static str) {
    match kind {
        io::ErrorKind::NotFound => {
            (ErrorKind::NotFound, "the file or folder does not exist; create it first")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::PermissionDenied, "the operating system forbids it; grant the permission")
        }
        io::ErrorKind::NotADirectory => {
            (ErrorKind::NotFound, "a part of the path is not a folder; correct the path")
        }
        io::ErrorKind::IsADirectory => (ErrorKind::Foreign, "the path is a folder; name a file"),
        io::ErrorKind::InvalidData => {
            (ErrorKind::Foreign, "the file is not a database; use another file, this one was not touched")
        }
        io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Corrupt, "the file is cut short; restore it from another tier or a backup")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => {
            (ErrorKind::Locked, "another process or handle has it open; close it there")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::Full, "the disk is full; free some space")
        }
        _ => (ErrorKind::Unavailable, "the disk failed"),
    }
}

/// Maps an error of the operating system.
pub fn io_error(error: io::Error) -> Error {
    let (kind, message) = io_kind(error.kind());
    Error::new(kind, message).with_source(error)
}
