//! The table of ways: what is performed, what it needs of the kernel, and what must have been observed.

use std::fs;
use std::path::{Path, PathBuf};

use breachline::event::{Contact, ContactHook, MetadataPath, Protocol};

use super::observer::Traces;
use super::stage::{Outcome, Stage};
use super::{datagram, endpoint, lineage, neighbour, netfilter, peer, program};

/// One way around.
pub(crate) struct Way {
    /// Its name: short, unique, stable.
    pub(crate) name: &'static str,
    /// What it goes around.
    pub(crate) group: &'static str,
    /// Does it, in a process of its own.
    pub(crate) perform: fn(&Stage) -> Outcome,
    /// What it needs beside a kernel.
    pub(crate) needs: Need,
    /// Whether it was seen for what it is.
    pub(crate) seen: fn(&Traces<'_>) -> bool,
    /// For a way that no sense sees: whether that which is raised instead was.
    pub(crate) instead: Option<fn(&Traces<'_>) -> bool>,
    /// The kernel from which on it is seen all the same.
    pub(crate) seen_since: Option<(u32, u32)>,
}

impl Way {
    /// Whether it must be seen for what it is, where it can be walked.
    pub(crate) fn must_be_seen(&self) -> bool {
        self.instead.is_none() || self.seen_since.is_some_and(kernel_at_least)
    }
}

/// What must be there for a way to be walked at all. Asked apart from walking it, so that "absent" is never an excuse.
#[derive(Copy, Clone)]
pub(crate) enum Need {
    /// Nothing that a kernel of 5.10 or later might lack.
    Nothing,
    /// One of these kernel symbols.
    Symbol(&'static [&'static str]),
    /// io_uring, neither left out nor switched off, and one of these symbols.
    Uring(&'static [&'static str]),
    /// The 32-bit system call table.
    Calls32,
    /// A file.
    File(&'static str),
    /// Another program of the same machine, within reach: not from within a container.
    Neighbour,
}

const URING: Need = Need::Uring(&["io_submit_sqes", "io_issue_sqe", "io_uring_create"]);
const URING_SOCKET: Need = Need::Uring(&["io_socket"]);
const MPTCP: Need = Need::Symbol(&["mptcp_init_sock", "mptcp_sendmsg"]);
const SCTP: Need = Need::Symbol(&["sctp_init_sock", "sctp_v4_get_dst"]);
const UDP_LITE: Need = Need::Symbol(&["udplite_rcv", "udplite4_register"]);
const USER_NAMESPACES: Need = Need::Symbol(&["create_user_ns"]);
const REDIRECTION: Need = Need::Symbol(&["nft_redir_init", "nft_redir_eval", "nft_redir_inet_eval"]);
const VSOCK: Need = Need::Symbol(&["vsock_connect", "vsock_stream_connect"]);
/// A guest that may be changed as a whole: its initramfs holds this file.
const GUEST: Need = Need::File("/guest");

/// What this machine has, and the root directory of where the ways are walked.
pub(crate) struct Machine {
    symbols: String,
    root: PathBuf,
    neighbour: bool,
}

impl Machine {
    /// Reads `/proc/kallsyms`, whose names anybody may read.
    pub(crate) fn read(root: &Path, neighbour: bool) -> Self {
        Self { symbols: fs::read_to_string("/proc/kallsyms").unwrap_or_default(), root: root.to_owned(), neighbour }
    }

    /// Whether a way can be walked here.
    pub(crate) fn has(&mut self, need: Need) -> bool {
        if matches!(need, Need::Symbol(_)) && !self.fulfils(need) {
            // Walking the way may have loaded a module.
            self.symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        }
        self.fulfils(need)
    }

    fn fulfils(&self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Symbol(names) => self.symbol(names),
            Need::Uring(names) => {
                let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
                switch.trim() != "2" && self.symbol(names)
            }
            Need::Calls32 => {
                cfg!(target_arch = "x86_64") && self.symbol(&["do_int80_syscall_32", "do_int80_emulation"])
            }
            Need::File(path) => fs::exists(self.root.join(path.trim_start_matches('/'))).unwrap_or(false),
            Need::Neighbour => self.neighbour,
        }
    }

    fn symbol(&self, names: &[&str]) -> bool {
        names.iter().any(|name| {
            // A symbol stands between its type and the end of the line; the compiler may have appended a suffix.
            self.symbols.match_indices(name).any(|(at, _)| {
                let before = self.symbols[..at].ends_with(' ');
                let after = self.symbols[at + name.len()..].chars().next();
                before && matches!(after, None | Some('\n' | '.' | '\t' | ' '))
            })
        })
    }
}

const fn seen(
    group: &'static str,
    name: &'static str,
    needs: Need,
    perform: fn(&Stage) -> Outcome,
    seen: fn(&Traces<'_>) -> bool,
) -> Way {
    Way { name, group, perform, needs, seen, instead: None, seen_since: None }
}

const fn missed(
    group: &'static str,
    name: &'static str,
    perform: fn(&Stage) -> Outcome,
    seen: fn(&Traces<'_>) -> bool,
    instead: fn(&Traces<'_>) -> bool,
) -> Way {
    Way { name, group, perform, needs: Need::Nothing, seen, instead: Some(instead), seen_since: None }
}

/// A way that no sense sees and that nothing is raised for: SECURITY.md names it.
const fn unseen(
    group: &'static str,
    name: &'static str,
    perform: fn(&Stage) -> Outcome,
    seen: fn(&Traces<'_>) -> bool,
) -> Way {
    missed(group, name, perform, seen, |_| true)
}

/// A way on which another program does the service's work: it is seen, as that program's own.
const fn by_another(
    group: &'static str,
    name: &'static str,
    needs: Need,
    perform: fn(&Stage) -> Outcome,
    seen: fn(&Traces<'_>) -> bool,
    elsewhere: fn(&Traces<'_>) -> bool,
) -> Way {
    Way { needs, ..missed(group, name, perform, seen, elsewhere) }
}

/// Whether this kernel has the tracepoint that tells of packet sockets, `cap_capable`.
fn tells_packet_sockets() -> bool {
    kernel_at_least((6, 14))
}

fn kernel_at_least(version: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let mut numbers = release.iter().flat_map(|text| text.split(['.', '-'])).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(version.0), Some(version.1))
}

const PROGRAM: &str = "start a program";
const PEER: &str = "reach a peer";
const AMOUNT: &str = "hide how much goes over UDP";
const NAME: &str = "hide a name";
const LINEAGE: &str = "lose one's origin";
const METADATA: &str = "ask for a credential";
const OTHERS: &str = "have others do it";
const SERVED: &str = "who was being served";

fn tcp(contact: &Contact) -> bool {
    contact.protocol == Protocol::Tcp && contact.hook == ContactHook::Connect && !contact.mapped && contact.first
}

fn udp(contact: &Contact) -> bool {
    contact.protocol == Protocol::Udp && contact.hook == ContactHook::Sendmsg && !contact.mapped && contact.first
}

fn connects(traces: &Traces<'_>) -> bool {
    traces.contact("127.0.0.1", tcp)
}

fn sends(traces: &Traces<'_>) -> bool {
    traces.contact("127.0.0.1", udp)
}

fn credential(traces: &Traces<'_>) -> bool {
    traces.request(|request| request.path == MetadataPath::Credential && request.method == "GET")
}

fn aws_endpoint(traces: &Traces<'_>) -> bool {
    traces.endpoint("169.254.169.254:80", |contact| contact.metadata)
}

fn any_shell(traces: &Traces<'_>) -> bool {
    traces.shell(|_| true)
}

/// The one that the way is about: another shell crashes for it.
fn any_marked_shell(traces: &Traces<'_>) -> bool {
    traces.shell(|exec| exec.argv.iter().any(|word| word.contains("way=")))
}

fn shell_elsewhere(traces: &Traces<'_>) -> bool {
    traces.shell_elsewhere()
}

/// Every way.
pub(crate) const WAYS: &[Way] = &[
    seen(PROGRAM, "execve", Need::Nothing, program::by_execve, any_shell),
    seen(PROGRAM, "execveat", Need::Nothing, program::by_execveat, any_shell),
    seen(PROGRAM, "proc-self-fd", Need::Nothing, program::by_descriptor_path, |traces| {
        traces.shell(|exec| exec.filename.starts_with("/proc/self/fd/"))
    }),
    seen(PROGRAM, "memfd", Need::Nothing, program::in_memory, |traces| {
        traces.fileless(|exec| exec.memfd && exec.link_count == 0)
    }),
    seen(PROGRAM, "deleted-file", Need::Nothing, program::deleted, |traces| {
        traces.fileless(|exec| !exec.memfd && exec.link_count == 0)
    }),
    seen(PROGRAM, "script", Need::Nothing, program::script, |traces| {
        traces.shell(|exec| exec.interpreter.as_deref() == Some("/bin/sh") && exec.filename.ends_with("/job"))
    }),
    seen(PROGRAM, "symlink", Need::Nothing, program::symlinked, |traces| {
        traces.shell(|exec| exec.filename.ends_with("/innocent"))
    }),
    seen(PROGRAM, "hard-link", Need::Nothing, program::hard_linked, |traces| traces.shell(|exec| exec.link_count > 1)),
    seen(PROGRAM, "bind-mounted", Need::Nothing, program::bind_mounted, any_shell),
    seen(PROGRAM, "copied-shell", Need::Nothing, program::copied, any_shell),
    seen(PROGRAM, "copied-shell-padded", Need::Nothing, program::copied_and_padded, any_shell),
    seen(PROGRAM, "busybox", Need::Nothing, program::busybox, any_shell),
    seen(PROGRAM, "busybox-applet-link", Need::Nothing, program::busybox_applet, any_shell),
    seen(PROGRAM, "busybox-copied", Need::Nothing, program::busybox_copied, any_shell),
    seen(PROGRAM, "dynamic-loader", Need::Nothing, program::by_loader, any_shell),
    seen(PROGRAM, "exec-from-thread", Need::Nothing, program::from_thread, any_shell),
    seen(PROGRAM, "posix-spawn", Need::Nothing, program::spawned, any_shell),
    seen(PROGRAM, "exec-32-bit", Need::Calls32, program::by_32_bit_call, any_shell),
    seen(PROGRAM, "shell-on-stdin", Need::Nothing, program::shell_on_stdin, any_shell),
    seen(PROGRAM, "shell-on-socket", Need::Nothing, program::shell_on_socket, |traces| {
        traces.shell(|exec| exec.stdio.contains(&breachline::event::Stdio::InetSocket))
    }),
    seen(PROGRAM, "perl-argument", Need::File("/usr/bin/perl"), program::perl_argument, |traces| {
        traces.interpreter(|_| true)
    }),
    seen(PROGRAM, "perl-on-stdin", Need::File("/usr/bin/perl"), program::perl_on_stdin, |traces| {
        traces.interpreter(|_| true)
    }),
    seen(PROGRAM, "awk-system", Need::File("/usr/bin/mawk"), program::awk, |traces| traces.interpreter(|_| true)),
    seen(PROGRAM, "python-argument", Need::File("/usr/bin/python3"), program::python, |traces| {
        traces.interpreter(|_| true)
    }),
    missed(PROGRAM, "mapped-code", program::mapped_code, |traces| traces.any_exec(), connects),
    seen(PEER, "connect", Need::Nothing, peer::connect, connects),
    seen(PEER, "connect-nonblocking", Need::Nothing, peer::connect_without_waiting, connects),
    seen(PEER, "connect-ipv6", Need::Nothing, peer::connect_v6, |traces| traces.contact("::1", tcp)),
    seen(PEER, "connect-v4-mapped", Need::Nothing, peer::connect_mapped, |traces| {
        traces.contact("127.0.0.1", |contact| contact.mapped && contact.protocol == Protocol::Tcp)
    }),
    seen(PEER, "tcp-fast-open-sendto", Need::Nothing, peer::fast_open, connects),
    seen(PEER, "tcp-fast-open-connect", Need::Nothing, peer::fast_open_connect, connects),
    seen(PEER, "multipath-tcp", MPTCP, peer::multipath, connects),
    seen(PEER, "tcp-repair", Need::Nothing, peer::repair, connects),
    seen(PEER, "io-uring-connect", URING, peer::uring, connects),
    seen(PEER, "io-uring-sqpoll-connect", URING, peer::uring_polled, connects),
    seen(PEER, "io-uring-socket-connect", URING_SOCKET, peer::uring_socket, connects),
    seen(PEER, "connect-32-bit", Need::Calls32, peer::by_32_bit_call, connects),
    seen(PEER, "socketcall-32-bit", Need::Calls32, peer::by_multiplexer, connects),
    seen(PEER, "udp-connect", Need::Nothing, peer::udp_connected, |traces| {
        traces.contact("127.0.0.1", |contact| {
            contact.protocol == Protocol::Udp && contact.hook == ContactHook::Connect && contact.first
        })
    }),
    seen(PEER, "udp-sendto", Need::Nothing, peer::udp_sendto, sends),
    seen(PEER, "udp-sendto-ipv6", Need::Nothing, peer::udp_sendto_v6, |traces| traces.contact("::1", udp)),
    seen(PEER, "udp-sendto-v4-mapped", Need::Nothing, peer::udp_sendto_mapped, |traces| {
        traces.contact("127.0.0.1", |contact| contact.protocol == Protocol::Udp)
    }),
    seen(PEER, "udp-sendmmsg", Need::Nothing, peer::udp_sendmmsg, sends),
    seen(PEER, "udp-connected-elsewhere", Need::Nothing, peer::udp_elsewhere, sends),
    seen(PEER, "io-uring-sendmsg", URING, peer::uring_datagram, sends),
    seen(PEER, "quic", Need::Nothing, peer::quic, sends),
    seen(PEER, "quic-connected", Need::Nothing, peer::quic_connected, |traces| {
        traces.contact("127.0.0.1", |contact| {
            contact.protocol == Protocol::Udp && contact.hook == ContactHook::Connect && contact.first
        })
    }),
    seen(PEER, "udp-lite", UDP_LITE, peer::udp_lite, |traces| {
        traces.contact("127.0.0.1", |contact| contact.hook == ContactHook::Sendmsg)
    }),
    missed(PEER, "raw-socket", peer::raw_socket, connects, |traces| traces.raw_socket()),
    missed(PEER, "icmp-datagram", peer::icmp_datagram, connects, |traces| traces.raw_socket()),
    Way { needs: SCTP, ..missed(PEER, "sctp", peer::sctp, |_| false, |traces| traces.raw_socket()) },
    unseen(PEER, "unix-socket", peer::unix_socket, |traces| traces.any_exec() || traces.raw_socket()),
    Way {
        needs: REDIRECTION,
        ..missed(PEER, "netfilter-redirect", netfilter::redirected, |traces| traces.reached_another(), connects)
    },
    Way { needs: VSOCK, ..unseen(PEER, "vsock", peer::vsock, |traces| connects(traces) || traces.raw_socket()) },
    missed(PEER, "packet-socket", peer::packet_socket, connects, |traces| {
        traces.raw_socket() || !tells_packet_sockets()
    }),
    seen(AMOUNT, "udp-bytes", Need::Nothing, datagram::unconnected, datagram::all_told),
    seen(AMOUNT, "udp-bytes-connected", Need::Nothing, datagram::connected, datagram::all_told),
    seen(AMOUNT, "udp-bytes-ipv6", Need::Nothing, datagram::version_6, datagram::all_told_v6),
    seen(AMOUNT, "udp-bytes-v4-mapped", Need::Nothing, datagram::mapped, datagram::all_told),
    seen(AMOUNT, "udp-bytes-ip-options", Need::Nothing, datagram::with_options, datagram::all_told),
    seen(AMOUNT, "udp-bytes-segmented", Need::Nothing, datagram::segmented, datagram::all_told),
    seen(AMOUNT, "quic-bytes", Need::Nothing, datagram::quic, datagram::quic_told),
    seen(AMOUNT, "quic-bytes-connected", Need::Nothing, datagram::quic_connected, datagram::quic_connected_told),
    seen(AMOUNT, "udp-unanswered", Need::Nothing, datagram::unanswered, datagram::told_unanswered),
    seen(AMOUNT, "udp-refused", Need::Nothing, datagram::refused, datagram::told_refused),
    seen(AMOUNT, "udp-decoy", Need::Nothing, datagram::second_peer, datagram::told_apart),
    seen(AMOUNT, "udp-socket-inherited", Need::Nothing, datagram::left_to_a_child, datagram::told_unanswered),
    missed(AMOUNT, "udp-many-peers", datagram::one_too_many, datagram::last_one_told, datagram::more_is_told),
    missed(AMOUNT, "udp-known-peer", datagram::known_peer, datagram::all_told, datagram::first_one_told),
    seen(NAME, "tls-server-name", Need::Nothing, peer::tls, |traces| traces.greeted(peer::TLS_SERVER)),
    missed(NAME, "tls-name-in-pieces", peer::tls_in_pieces, |traces| traces.greeted(peer::TLS_SERVER), connects),
    seen(LINEAGE, "double-fork", Need::Nothing, lineage::double_fork, any_shell),
    seen(LINEAGE, "setsid", Need::Nothing, lineage::new_session, any_shell),
    seen(LINEAGE, "daemon", Need::Nothing, lineage::daemon, any_shell),
    seen(LINEAGE, "clone-parent", Need::Nothing, lineage::sibling, any_shell),
    seen(LINEAGE, "reparented", Need::Nothing, lineage::reparented, any_shell),
    seen(LINEAGE, "exec-chain", Need::Nothing, lineage::exec_chain, any_shell),
    seen(LINEAGE, "twelve-forks", Need::Nothing, lineage::deep, any_shell),
    seen(LINEAGE, "fork-from-thread", Need::Nothing, lineage::forked_by_thread, any_shell),
    seen(LINEAGE, "unshare", Need::Nothing, lineage::new_namespaces, any_shell),
    seen(LINEAGE, "user-namespace", USER_NAMESPACES, lineage::user_namespace, any_shell),
    seen(LINEAGE, "nsenter", Need::Nothing, lineage::entered_namespaces, any_shell),
    seen(LINEAGE, "chroot", Need::Nothing, lineage::other_root, any_shell),
    seen(LINEAGE, "taint-outlives-daemon", Need::Nothing, lineage::taint_outlives_a_daemon, |traces| {
        traces.contact("127.0.0.1", |contact| !contact.first)
    }),
    seen(METADATA, "imds-v1", Need::Nothing, endpoint::version_1, credential),
    seen(METADATA, "imds-v2", Need::Nothing, endpoint::version_2, |traces| {
        traces.request(|request| request.path == MetadataPath::Session && request.method == "PUT")
            && traces.request(|request| request.path == MetadataPath::Credential && request.token)
    }),
    seen(METADATA, "imds-ipv6", Need::Nothing, endpoint::version_6, |traces| {
        credential(traces) && traces.endpoint("[fd00:ec2::254]:80", |contact| contact.metadata)
    }),
    seen(METADATA, "imds-v4-mapped", Need::Nothing, endpoint::mapped, credential),
    seen(METADATA, "imds-container", Need::Nothing, endpoint::container_endpoint, |traces| {
        credential(traces) && traces.endpoint("169.254.170.2:80", |contact| contact.metadata)
    }),
    seen(METADATA, "imds-split-method", Need::Nothing, endpoint::split_request, credential),
    seen(METADATA, "imds-split-path", Need::Nothing, endpoint::split_path, credential),
    seen(METADATA, "imds-fast-open", Need::Nothing, endpoint::fast_open, |traces| {
        credential(traces) && aws_endpoint(traces)
    }),
    by_another(OTHERS, "asked-daemon", Need::Neighbour, neighbour::asked, any_shell, shell_elsewhere),
    by_another(OTHERS, "spooled-job", Need::Neighbour, neighbour::job, any_shell, shell_elsewhere),
    by_another(OTHERS, "core-pattern", GUEST, neighbour::crash_handler, any_marked_shell, shell_elsewhere),
    by_another(OTHERS, "ptrace", Need::Neighbour, neighbour::injected, connects, |traces| {
        traces.contact_elsewhere("127.0.0.1", tcp)
    }),
    // Before 6.4 the verifier would take minutes over the walk through a server's descriptors.
    Way { seen_since: Some((6, 4)), ..missed(SERVED, "inbound", peer::served, |traces| traces.served(), any_shell) },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        let names: BTreeSet<&str> = WAYS.iter().map(|way| way.name).collect();
        assert_eq!(names.len(), WAYS.len());
        let plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(names.iter().all(|name| plain(name)), "{names:?}");
    }

    #[test]
    fn a_symbol_is_a_whole_word() {
        let check = |symbols: &str, expected: bool| {
            let machine = Machine { symbols: symbols.to_owned(), root: PathBuf::from("/"), neighbour: false };
            assert_eq!(machine.fulfils(Need::Symbol(&["io_socket"])), expected, "{symbols}");
        };
        check("0 t io_socket\n", true);
        check("0 t io_socket.isra.0\n", true);
        check("0 t io_socket", true);
        check("0 t io_socket_prep\n0 t bio_socket\n", false);
        check("", false);
    }
}
