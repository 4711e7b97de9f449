//! An authority and what it signs, made by openssl for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the files of an authority lie.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn make(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("directory");
        let authority = Self { directory: directory.to_owned() };
        authority.openssl("ca", &["-addext", "basicConstraints=critical,CA:TRUE", "-subj", "/CN=authority"]);
        authority
    }

    /// A certificate for 127.0.0.1, `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(&self, name: &str) {
        let (authority, key) = (self.path("ca.pem"), self.path("ca.key"));
        let subject = format!("/CN={name}");
        let signed = ["-CA", &authority, "-CAkey", &key, "-subj", &subject];
        let extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"];
        self.openssl(name, &[signed.as_slice(), &extensions].concat());
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).to_string_lossy().into_owned()
    }

    fn openssl(&self, name: &str, more: &[&str]) {
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-keyout", &key, "-out", &certificate]).args(more);
        let made = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("openssl runs");
        assert!(made.success(), "openssl makes {name}");
    }
}
