//! The first lines of a server, for copying.

use crate::report::{self, quoted};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A device that waits for its client.
#[derive(Serialize)]
pub struct Ready {
    /// The absolute path of the socket.
    pub path: PathBuf,
    /// Bytes of the disk.
    pub bytes: u64,
    /// I/O queues.
    pub queues: u16,
    /// QEMU's arguments for a guest with this device.
    pub qemu: String,
    /// The command that shows its vectors.
    pub watch: String,
}

impl Ready {
    /// Makes the lines for a device on this socket.
    pub fn new(socket: &Path, bytes: u64, queues: u16) -> Self {
        let path = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        // QEMU reads JSON, which is UTF-8. Another path can be shown, but not used.
        let text = path.to_string_lossy();
        let device = serde_json::json!({
            "driver": "vfio-user-pci",
            "socket": { "path": text, "type": "unix" },
        });
        let qemu = format!(
            "-object memory-backend-memfd,id=mem,size=1G,share=on -machine memory-backend=mem -device {}",
            quoted(&device.to_string())
        );
        let watch = format!("vfio-irq watch {}", quoted(&format!("vfio-user:{text}")));
        Self { path, bytes, queues, qemu, watch }
    }

    /// Formats the lines as text.
    pub fn words(&self) -> String {
        let Self { path, bytes, queues, qemu, watch } = self;
        let queues = report::many((*queues).into(), "queue");
        format!(
            "An NVMe controller waits at {}: {}, {queues}\n  QEMU:   {qemu}\n  watch:  {watch}\n",
            path.display(),
            super::size::words(*bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Ready;

    /// A shell parses the lines into the intended words.
    #[test]
    fn the_lines_can_be_copied_whatever_the_path_is() {
        for path in ["/tmp/disk.sock", "/tmp/it's a \"disk\" $HOME `x`\\.sock"] {
            let ready = Ready::new(path.as_ref(), 1 << 20, 3);
            let words = |line: &str| {
                let script = format!("printf '%s\\n' {line}");
                let output =
                    std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            let qemu = words(&ready.qemu);
            let device: serde_json::Value = serde_json::from_str(qemu.last().unwrap()).unwrap();
            assert_eq!(device["socket"]["path"], path);
            assert_eq!(qemu.len(), 6, "{qemu:?}");
            let expected = ["vfio-irq", "watch", &format!("vfio-user:{path}")].map(str::to_owned);
            assert_eq!(words(&ready.watch), expected);
        }
    }
}
