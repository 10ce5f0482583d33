//! The methods of compression.

use tiered_core::{Error, ErrorKind, Result};

/// How values are compressed. The features `lz4` and `zstd` add one each.
///
/// # Examples
/// ```
/// use tiered_wrap::Compression;
///
/// // Where the name comes from a file; it is refused where the build lacks the method.
/// let compression = Compression::from_name("lz4");
/// # #[cfg(feature = "lz4")]
/// assert_eq!(compression?, Compression::Lz4);
/// assert!(Compression::from_name("gzip").is_err());
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// LZ4, in pure Rust: about a gigabyte a second. Values become half as large, or less.
    #[cfg(feature = "lz4")]
    Lz4,
    /// Zstandard, by its C library: smaller values, and slower writes.
    #[cfg(feature = "zstd")]
    Zstd {
        /// From 1 (fast) to 22 (small). 3 is usual.
        level: i32,
    },
}

/// In a value's head.
pub(super) const KEPT: u8 = 0;
pub(super) const LZ4: u8 = 1;
pub(super) const ZSTD: u8 = 2;

impl Compression {
    /// The method of this name: `lz4`, or `zstd` at level 3.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another name, and for a method that this build lacks.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            #[cfg(feature = "lz4")]
            "lz4" => Ok(Self::Lz4),
            #[cfg(feature = "zstd")]
            "zstd" => Ok(Self::Zstd { level: 3 }),
            // What the build has is above.
            other if ["lz4", "zstd"].contains(&other) => Err(Error::new(
                ErrorKind::Config,
                format!("this build has no compression {other}; enable the feature {other}"),
            )),
            _ => Err(Error::new(ErrorKind::Config, "unknown compression; use lz4 or zstd")),
        }
    }

    /// The number in a value's head.
    pub(super) const fn code(self) -> u8 {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => LZ4,
            #[cfg(feature = "zstd")]
            Self::Zstd { .. } => ZSTD,
        }
    }

    /// Compresses a frame into `out`, which is as long as [`room`](Self::room) says; how many bytes it has then.
    pub(super) fn compress(self, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4_flex::block::compress_into(frame, out).ok(),
            #[cfg(feature = "zstd")]
            Self::Zstd { level } => zstd::bulk::compress_to_buffer(frame, out, level).ok(),
        }
    }

    /// The most that a compressed frame of so many bytes has.
    pub(super) fn room(self, frame: usize) -> usize {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4_flex::block::get_maximum_output_size(frame),
            #[cfg(feature = "zstd")]
            Self::Zstd { .. } => zstd::zstd_safe::compress_bound(frame),
        }
    }
}

/// Whether this build reads values of the method with this number.
pub(super) fn check(code: u8) -> Result<()> {
    let lacks = |name: &str| {
        let message =
            format!("the value is compressed by {name}, which this build lacks; enable the feature {name}");
        Err(Error::new(ErrorKind::Unsupported, message))
    };
    match code {
        KEPT => Ok(()),
        LZ4 if cfg!(feature = "lz4") => Ok(()),
        ZSTD if cfg!(feature = "zstd") => Ok(()),
        LZ4 => lacks("lz4"),
        ZSTD => lacks("zstd"),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "the value is compressed by a method that this version does not know; use a later version",
        )),
    }
}

/// Decompresses a frame into `out`, which is as long as the frame; whether it has exactly that length.
pub(super) fn decompress(code: u8, frame: &[u8], out: &mut [u8]) -> bool {
    let len = out.len();
    match code {
        #[cfg(feature = "lz4")]
        LZ4 => lz4_flex::block::decompress_into(frame, out).is_ok_and(|read| read == len),
        #[cfg(feature = "zstd")]
        ZSTD => zstd::bulk::decompress_to_buffer(frame, out).is_ok_and(|read| read == len),
        _ => len == 0 && frame.is_empty(),
    }
}
