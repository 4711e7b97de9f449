//! What the loader tells the kernel half once, before it is verified: field offsets of the running kernel, thresholds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of a field that this kernel does not have: its detail is off.
pub const MISSING: u32 = u32::MAX;

macro_rules! parameters {
    (offsets { $($field:ident = $path:literal,)* } settings { $($(#[$doc:meta])* $setting:ident,)* }) => {
        /// The one read-only global. Offsets are in bytes from the start of the named struct, [`MISSING`] where there
        /// is none.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
        pub struct Parameters {
            $(#[doc = concat!("Offset of `", $path, "`.")] pub $field: u32,)*
            $($(#[$doc])* pub $setting: u32,)*
        }

        impl Parameters {
            /// Nothing known.
            pub const UNSET: Self = Self { $($field: MISSING,)* $($setting: 0,)* };

            /// Every offset with the name of its field, `struct.member`, members of members with further dots.
            pub fn offsets(&mut self) -> [(&mut u32, &'static str); [$($path),*].len()] {
                [$((&mut self.$field, $path),)*]
            }
        }
    };
}

parameters! {
    offsets {
        task_tgid = "task_struct.tgid",
        task_group_leader = "task_struct.group_leader",
        task_real_parent = "task_struct.real_parent",
        task_start_boottime = "task_struct.start_boottime",
        task_cred = "task_struct.cred",
        task_nsproxy = "task_struct.nsproxy",
        task_mm = "task_struct.mm",
        task_files = "task_struct.files",
        task_fs = "task_struct.fs",
        task_signal = "task_struct.signal",
        task_exit_code = "task_struct.exit_code",
        task_children = "task_struct.children",
        task_sibling = "task_struct.sibling",
        signal_live = "signal_struct.live",
        signal_group_exit_code = "signal_struct.group_exit_code",
        cred_uid = "cred.uid",
        cred_euid = "cred.euid",
        cred_cap_effective = "cred.cap_effective",
        nsproxy_mnt_ns = "nsproxy.mnt_ns",
        nsproxy_net_ns = "nsproxy.net_ns",
        nsproxy_pid_ns = "nsproxy.pid_ns_for_children",
        mnt_namespace_inum = "mnt_namespace.ns.inum",
        net_inum = "net.ns.inum",
        pid_namespace_inum = "pid_namespace.ns.inum",
        mm_arg_start = "mm_struct.arg_start",
        mm_arg_end = "mm_struct.arg_end",
        mm_exe_file = "mm_struct.exe_file",
        file_inode = "file.f_inode",
        file_dentry = "file.f_path.dentry",
        file_mnt = "file.f_path.mnt",
        file_private_data = "file.private_data",
        inode_ino = "inode.i_ino",
        inode_nlink = "inode.i_nlink",
        inode_mode = "inode.i_mode",
        inode_rdev = "inode.i_rdev",
        inode_sb = "inode.i_sb",
        super_block_dev = "super_block.s_dev",
        dentry_parent = "dentry.d_parent",
        dentry_name = "dentry.d_name.name",
        vfsmount_root = "vfsmount.mnt_root",
        mount_vfsmount = "mount.mnt",
        mount_parent = "mount.mnt_parent",
        mount_mountpoint = "mount.mnt_mountpoint",
        fs_root_dentry = "fs_struct.root.dentry",
        fs_root_mnt = "fs_struct.root.mnt",
        fs_pwd_dentry = "fs_struct.pwd.dentry",
        fs_pwd_mnt = "fs_struct.pwd.mnt",
        files_fdt = "files_struct.fdt",
        fdtable_fd = "fdtable.fd",
        fdtable_open_fds = "fdtable.open_fds",
        fdtable_max_fds = "fdtable.max_fds",
        regs_syscall = "pt_regs.orig_ax",
        regs_first_argument = "pt_regs.di",
        binprm_filename = "linux_binprm.filename",
        binprm_interp = "linux_binprm.interp",
        socket_sk = "socket.sk",
        sock_family = "sock.__sk_common.skc_family",
        sock_daddr = "sock.__sk_common.skc_daddr",
        sock_rcv_saddr = "sock.__sk_common.skc_rcv_saddr",
        sock_v6_daddr = "sock.__sk_common.skc_v6_daddr",
        sock_v6_rcv_saddr = "sock.__sk_common.skc_v6_rcv_saddr",
        sock_state = "sock.__sk_common.skc_state",
        sock_dport = "sock.__sk_common.skc_dport",
        sock_num = "sock.__sk_common.skc_num",
        sock_net = "sock.__sk_common.skc_net.net",
        sock_flags = "sock.__sk_common.skc_flags",
        sock_cookie = "sock.__sk_common.skc_cookie",
        sock_protocol = "sock.sk_protocol",
        sock_err = "sock.sk_err",
        tcp_last_received = "inet_connection_sock.icsk_ack.lrcvtime",
        tcp_bytes_sent = "tcp_sock.bytes_sent",
        tcp_bytes_retransmitted = "tcp_sock.bytes_retrans",
        tcp_bytes_received = "tcp_sock.bytes_received",
    }
    settings {
        /// 1 when cgroup programs may ask for the current task as a typed pointer (`bpf_get_current_task_btf`, 5.11).
        current_task_btf,
        /// 1 when a task's registers may be asked for (`bpf_task_pt_regs`, 5.15).
        task_registers,
        /// Bytes waiting in the bulk ring from which user space is woken.
        bulk_wake_bytes,
        /// Bytes waiting in the priority ring from which ordinary first contacts take the other.
        priority_crowded_bytes,
        /// Shortest time between two forced wake-ups, microseconds.
        wake_interval_us,
        /// Places of the contact table less one.
        contact_set_mask,
        /// Key of the contact table's hash, drawn at load: lower half.
        contact_seed_low,
        /// Upper half.
        contact_seed_high,
    }
}
