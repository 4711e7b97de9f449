//! Log lines that say which one they are.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Line `number`, sent to `target` (`-` for none).
pub(crate) fn line(number: u64, target: &str) -> String {
    let target = if target == "-" { "-".to_owned() } else { format!("{target}:8080") };
    format!(
        "http 2026-05-04T10:00:01.250000Z app/edge/0 198.51.100.9:40100 {target} 0.0 0.2 0.0 200 200 1 2 \
         \"GET http://shop.example:80/item/{number}?page=2 HTTP/1.1\" \"agent/1.0\" - - arn:tg \"Root=1-a-{number}\" \
         \"-\" \"-\" 0 2026-05-04T10:00:01.000000Z \"forward\" \"-\" \"-\""
    )
}

/// The number in a line.
pub(crate) fn number(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    text.split_once("/item/")?.1.split_once('?')?.0.parse().ok()
}

/// Adds lines to a file.
pub(crate) fn write_lines(path: &Path, numbers: Range<u64>, target: &str) {
    let text: String = numbers.map(|number| line(number, target) + "\n").collect();
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opens");
    file.write_all(text.as_bytes()).expect("writes");
}

/// Writes a gzip file of lines.
pub(crate) fn write_gzip(path: &Path, numbers: Range<u64>, target: &str) {
    let file = std::fs::File::create(path).expect("creates");
    let mut encoder = GzEncoder::new(file, Compression::fast());
    for number in numbers {
        writeln!(encoder, "{}", line(number, target)).expect("writes");
    }
    encoder.finish().expect("finishes");
}
