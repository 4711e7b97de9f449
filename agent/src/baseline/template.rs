//! A command line in, its shape out: what stays the same when an honest program shells out again with other data.
//!
//! Numbers, ids and the names of temporary and numbered files vary; words, options, shell operators, host names and
//! addresses do not. The shape is strict on purpose: a command that differs in anything but such names is another one.

/// Longest shape kept, in bytes; of a longer one a digest of the rest tells it from others that begin alike.
const TEMPLATE_BYTES_MAX: usize = 256;

/// Letters that end a word for a shell: `x;id` must not pass for a file name.
const BREAKS: &[char] =
    &[' ', '\t', '\n', '\r', ';', '|', '&', '(', ')', '<', '>', '`', '$', '{', '}', '"', '\'', '=', ',', '\\'];

/// Shape of a command line.
pub(crate) fn template(command_line: &str) -> String {
    let mut shape = String::with_capacity(command_line.len().min(TEMPLATE_BYTES_MAX));
    let mut word = String::new();
    for letter in command_line.chars() {
        if BREAKS.contains(&letter) {
            shape.push_str(&generalise(&std::mem::take(&mut word)));
            shape.push(letter);
        } else {
            word.push(letter);
        }
    }
    shape.push_str(&generalise(&word));
    bounded(shape)
}

fn generalise(word: &str) -> String {
    if word.parse::<std::net::IpAddr>().is_ok() || word.contains("://") || word.starts_with('-') {
        return word.to_owned();
    }
    match word.rsplit_once('/') {
        Some((directory, name)) => {
            let directory: Vec<String> = directory.split('/').map(generalise_name).collect();
            let name = if is_temporary(word) { "*".to_owned() } else { generalise_name(name) };
            format!("{}/{name}", directory.join("/"))
        }
        None => generalise_name(word),
    }
}

/// A number, a hex digest or a name with digits in it keeps its extension only; a plain word stays.
fn generalise_name(name: &str) -> String {
    // Dotted quads with a port, host names and versions keep their digits: a peer is what a command is about.
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 || looks_like_host(name) {
        return name.to_owned();
    }
    if digits == name.len() {
        return "#".to_owned();
    }
    let (stem, extension) = name.split_once('.').map_or((name, ""), |(stem, extension)| (stem, extension));
    let hexadecimal = stem.len() >= 8 && stem.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if hexadecimal || digits >= 4 {
        let dot = if extension.is_empty() { "" } else { "." };
        return format!("*{dot}{extension}");
    }
    name.to_owned()
}

/// An address with a port, or a dotted name whose last label has no digit and which has at least two dots.
fn looks_like_host(word: &str) -> bool {
    let host = word.split_once(':').map_or(word, |(host, _)| host);
    host.parse::<std::net::IpAddr>().is_ok() || word.parse::<std::net::SocketAddr>().is_ok() || {
        let mut labels = host.rsplit('.');
        let top = labels.next().unwrap_or_default();
        labels.count() >= 2 && top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_alphabetic())
    }
}

fn is_temporary(path: &str) -> bool {
    ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"].iter().any(|directory| path.starts_with(directory))
}

fn bounded(mut shape: String) -> String {
    if shape.len() <= TEMPLATE_BYTES_MAX {
        return shape;
    }
    let end = shape.floor_char_boundary(TEMPLATE_BYTES_MAX);
    let rest = shape.get(end..).unwrap_or_default();
    let digest = fnv1a(rest.as_bytes());
    shape.truncate(end);
    format!("{shape}…{digest:016x}")
}

/// FNV-1a, 64 bit (Fowler, Noll, Vo; draft-eastlake-fnv): a stable digest for telling shapes apart, not for security. Who
/// finds a collision has still to begin with the 256 bytes of a learned command.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_varies_commands_do_not() {
        let check = |line: &str, expected: &str| assert_eq!(template(line), expected);
        check("sh -c /usr/sbin/sendmail -t -i", "sh -c /usr/sbin/sendmail -t -i");
        check("convert /srv/up/20241122.jpg -resize 200 out.png", "convert /srv/up/*.jpg -resize # out.png");
        check("pdftotext /tmp/phpA1b2C3 -", "pdftotext /tmp/* -");
        check("gs --job=42 /x/0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0.ps", "gs --job=# /x/*.ps");
        check("sh -c ping -c 1 192.0.2.7", "sh -c ping -c # 192.0.2.7");
        check("curl http://192.0.2.7:8080/a1234", "curl http://192.0.2.7:8080/a1234");
        check("nc 192.0.2.7:4444", "nc 192.0.2.7:4444");
        check("dig a1234b.evil.example", "dig a1234b.evil.example");
        check("mysql5 -u root", "mysql5 -u root");
        check("", "");
    }

    #[test]
    fn an_added_command_is_another_shape() {
        let honest = template("sh -c convert /srv/up/1234.jpg out.png");
        for line in [
            "sh -c convert /srv/up/1234.jpg;id out.png",
            "sh -c convert /srv/up/1234.jpg out.png | sh",
            "sh -c convert /srv/up/$(id).jpg out.png",
            "sh -c convert /srv/up/1234`id`.jpg out.png",
            "sh -c convert /srv/up/1234.jpg\nid out.png",
        ] {
            assert_ne!(template(line), honest, "{line}");
        }
    }

    #[test]
    fn long_lines_differ_by_their_end() {
        let long = |end: &str| template(&format!("sh -c {}{end}", "word ".repeat(100)));
        assert!(long("a").len() < TEMPLATE_BYTES_MAX + 24);
        assert_ne!(long("a"), long("b"));
        assert_eq!(template(&"é".repeat(1000)).chars().next(), Some('é'));
    }
}
