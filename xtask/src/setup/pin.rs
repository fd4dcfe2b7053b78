//! The one ONNX Runtime that a release is tested with. The runtime checks the same digest; `tidy` compares the two.

use anyhow::{Result, bail};

/// Version of the Python package and of the library.
pub(crate) const VERSION: &str = "1.32.0";
/// Name of the library's file.
pub(crate) const FILE: &str = "libonnxruntime.so.1.32.0";
/// Where it is in the wheel.
pub(crate) const MEMBER: &str = "onnxruntime/capi/libonnxruntime.so.1.32.0";

/// A wheel and the library in it. The library needs glibc 2.28 and libstdc++, nothing of Python.
#[derive(Debug)]
pub(crate) struct Pin {
    /// As Rust names it.
    pub(crate) arch: &'static str,
    /// As pip names it.
    pub(crate) platform: &'static str,
    /// SHA-256 of the wheel.
    pub(crate) wheel: &'static str,
    /// Its size, for the person who waits.
    pub(crate) wheel_mb: u32,
    /// SHA-256 of the library.
    pub(crate) library: &'static str,
}

/// One for each machine that the wheel is built for.
pub(crate) const PINS: [Pin; 2] = [
    Pin {
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        wheel: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
        wheel_mb: 28,
        library: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    },
    Pin {
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        wheel: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
        wheel_mb: 23,
        library: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    },
];

impl Pin {
    /// Name of the wheel's file.
    pub(crate) fn wheel_file(&self) -> String {
        format!("onnxruntime-{VERSION}-cp312-cp312-{}.whl", self.platform)
    }
}

/// The pin for the machine that this runs on.
pub(crate) fn of_this_machine() -> Result<&'static Pin> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match PINS.iter().find(|pin| os == "linux" && pin.arch == arch) {
        Some(pin) => Ok(pin),
        None => bail!(
            "no ONNX Runtime is pinned for {os} on {arch}: build on Linux on x86_64 or aarch64, or set BERTH_ONNXRUNTIME \
             to a library {VERSION} of your own"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_whole() {
        for pin in PINS {
            assert_eq!((pin.wheel.len(), pin.library.len()), (64, 64), "{}", pin.arch);
            assert!(pin.wheel_file().contains(pin.arch));
        }
        assert!(FILE.ends_with(VERSION) && MEMBER.ends_with(FILE));
    }
}
