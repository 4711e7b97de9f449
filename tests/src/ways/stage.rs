//! Where a way is performed: what the performer may use, and how it says what became of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What a performer answers: done, or why not. An error that means "this kernel has no such thing" is told apart by
/// [`is_absent`].
pub(crate) type Outcome = io::Result<()>;

/// The port on which the service listens, on every address of its namespace.
pub(crate) const SERVICE_PORT: u16 = 8080;

/// What a performer knows.
pub(crate) struct Stage {
    folder: PathBuf,
    port: u16,
    name: String,
}

impl Stage {
    /// A stage for the way `name`: files go to `folder`, contacts to `port`, which nobody listens on.
    pub(crate) fn new(folder: PathBuf, port: u16, name: &str) -> Self {
        Self { folder, port, name: name.to_owned() }
    }

    /// A folder of its own, on the file system that holds the host's temporary files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A port that stands for this way alone.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The service's own listener.
    pub(crate) fn listener(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, SERVICE_PORT).into()
    }

    /// A shell command that does nothing and bears the way's name, for programs whose process id nobody can foretell.
    pub(crate) fn marked_command(&self) -> String {
        format!(": {}", mark(&self.name))
    }
}

/// What marks the argument of a program that belongs to the way `name`.
pub(crate) fn mark(name: &str) -> String {
    format!("way={name}=")
}

/// Whether an error says that the way is barred here: a container's capabilities, namespaces or mounts do not let it be walked.
pub(crate) fn is_barred(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| [libc::EPERM, libc::EACCES, libc::EROFS].contains(&code))
}

/// Whether an error says that the kernel has no such call, protocol, option or program format, or keeps it from everybody.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    const ABSENT: [i32; 7] = [
        libc::ENOSYS,
        libc::EPROTONOSUPPORT,
        libc::EAFNOSUPPORT,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::ENOEXEC,
        libc::ENOENT,
    ];
    error.raw_os_error().is_some_and(|code| ABSENT.contains(&code))
}
