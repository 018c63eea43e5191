//! The walls a child builds around itself before it sees a byte of a document. There is no way
//! back through any of them.
//!
//! Limits of the system first (memory, processor time, files), then Landlock (no file can be
//! opened), then seccomp (no system call but those of computing and talking to the parent). A
//! kernel may lack some; the parent is told which, and decides.

#[cfg(target_os = "linux")]
mod linux;

use rlimit::Resource;

use crate::pipeline::render::wire::{ChildSettings, SandboxStatus};

/// Builds every wall the system has.
pub(super) fn enter(settings: &ChildSettings, n_font_files: usize) -> SandboxStatus {
    let mut status = SandboxStatus::default();
    match set_limits(settings, n_font_files) {
        Ok(()) => status.limits = true,
        Err(error) => status.missing.push(format!("limits: {error}")),
    }
    #[cfg(target_os = "linux")]
    linux::enter(&mut status);
    #[cfg(not(target_os = "linux"))]
    {
        // The end of stdin is the end of the parent on every system.
        status.ends_with_parent = true;
        status
            .missing
            .push("Landlock and seccomp exist on Linux only".into());
    }
    status
}

fn set_limits(settings: &ChildSettings, n_font_files: usize) -> std::io::Result<()> {
    // Pipes, their copies, and a few for the runtime; a descriptor is the key to a file.
    let n_files = 16 + n_font_files as u64;
    let memory = settings.memory_limit_bytes;
    Resource::AS.set(memory, memory)?;
    Resource::CPU.set(settings.cpu_limit_seconds, settings.cpu_limit_seconds)?;
    Resource::CORE.set(0, 0)?;
    Resource::FSIZE.set(0, 0)?;
    Resource::NOFILE.set(n_files, n_files)
}
