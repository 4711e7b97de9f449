//! Hosts and paths that a server should not be made to reach, and requests that reach past its routes.

use super::Edge::{Begin, None, Typed, Word};
use super::{Group, Places, evidence};
use crate::request::AttackClass::{Cmdi, Crlf, Ssi, Ssrf, Traversal, Xxe};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(Ssrf, 60, "asks for what a cloud metadata service serves", Places::TARGET, None, &[
        "latest/meta-data", "latest/dynamic/instance", "iam/security-credentials", "computemetadata/v1", "metadata/identity/oauth2", "openstack/latest/",
        "2009-04-04/meta-data", "hetzner/v1/metadata",
    ]),
    evidence(Ssrf, 60, "asks for what a cloud metadata service serves", Places::QUERY, None, &[
        "latest/user-data", "latest/api/token", "metadata/instance?", "opc/v1/instance", "opc/v2/instance", "metadata/v1.json", "metadata/v1/", "openstack/latest",
        "v2/credentials", "latest/meta_data",
    ]),
    evidence(Crlf, 55, "tunnels to a socket through a proxy module", Places::TARGET, Begin, &[
        "unix:",
    ]),
    evidence(Crlf, 60, "splits a FastCGI path to set a directive", Places::PATH, None, &[
        "php_value\n", "php_admin_value", "php\ninfo",
    ]),
    evidence(Ssrf, 50, "asks for a cluster's own interfaces", Places::QUERY, None, &[
        "kubernetes.default.svc", "/var/run/docker.sock", "var/run/secrets/kubernetes.io",
    ]),
    evidence(Traversal, 60, "reads past a route by a path parameter", Places::PATH, None, &[
        "/..;/", "/.;/", ";/..", "..;.js", "..;/",
    ]),
    evidence(Ssrf, 60, "points the server at a service that records callbacks", Places::TARGET, Word, &[
        "oast.pro", "oast.live", "oast.site", "oast.online", "oast.fun", "oast.me", "interact.sh", "interactsh.com",
        "burpcollaborator.net", "oastify.com", "dnslog.cn", "ceye.io", "bxss.me", "xss.ht", "webhook.site",
        "requestbin.net", "canarytokens.com", "r87.me", "eyes.sh",
    ]),
    // In a name that resolves to it, or in a path that redirects there.
    evidence(Ssrf, 55, "names a cloud metadata endpoint", Places::QUERY, Typed, &["169.254.169.254"]),
    evidence(Ssrf, 55, "makes the server open an archive by URL", Places::QUERY, None, &[
        "jar:http", "jar:file", "jar:ftp",
    ]),
    evidence(Crlf, 60, "has a line break written out and a header", Places::TARGET, None, &[
        "\\r\\nset-cookie", "\\nset-cookie", "\\r\\nlocation:", "\\r\\ncontent-", "\\r\\nhost:", "\\r\\nx-", "\\r\\n\\r\\n<",
        "\\u000aset-cookie", "%0aset-cookie", "%0d%0a",
    ]),
    // U+2028 is a line break of its own.
    evidence(Crlf, 60, "has a line break written out and a header", Places::TARGET, None, &[
        "\u{2028}set-cookie:", "\u{2028}location:",
    ]),
    evidence(Xxe, 55, "writes markup in UTF-7", Places::QUERY, None, &["+adw-", "+adwaiq-"]),
    evidence(Ssi, 60, "contains an edge-side include", Places::TARGET, None, &[
        "<esi:", "<!--esi",
    ]),
    evidence(Xxe, 55, "makes an XML parser fetch something", Places::QUERY, None, &[
        "<?xml-stylesheet", "<xi:include", "xinclude\"", "xmlns:xi=",
        "<xsl:value-of", "<xsl:copy-of", "<xsl:include", "<xsl:import", "<xsl:variable", "<xsl:template",
        "system-property(", "php:function", "unparsed-entity-uri(",
    ]),
    evidence(Cmdi, 60, "gives a program an option that runs another", Places::QUERY, None, &[
        "-oproxycommand=", "proxycommand=", "--checkpoint-action=", "--upload-pack=", "--receive-pack=", "--use-askpass",
        "--to-command=", "--use-compress-program", "-oqueuedirectory=", "-oq/tmp", " -x/var/", " -x/tmp/", " -x/home/", "--exec=", "-exec ", "--open-files-in-pager", "--rsh=",
    ]),
    evidence(Cmdi, 60, "gives a program an option that runs another", Places::QUERY, Typed, &["--gpu-launcher="]),
    evidence(Cmdi, 55, "names the shell by its variable", Places::QUERY, None, &[
        "%comspec%", "%systemroot%", "%windir%", "%programfiles%", "%programdata%", "!comspec!", "${comspec}",
    ]),
    evidence(Ssrf, 50, "is written so that parsers disagree about its host", Places::QUERY, None, &[
        " &@", "# @", "\\\\@",
    ]),
];
