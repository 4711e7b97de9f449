//! Markup in a parameter: scripts for a browser (XSS), server-side includes, XML entities.
//!
//! Text is read as HTML in two states: between tags, where `<name …>` opens an element, and inside an attribute,
//! whose quote the text may close to add a handler of its own. A tag of plain formatting is weak evidence, a tag
//! that loads or runs something is not.

use memchr::{memchr, memchr_iter, memmem};

use super::base64;
use super::finding::Findings;
use super::marks::{Marks, places};
use super::prose;
use super::shapes::Table;
use super::target::{Part, Place};
use crate::request::AttackClass::{Ssi, Xss, Xxe};

/// Tags of one part that are read with all their attributes. Of those behind them only what stands before the next `<`
/// is read: padding hides nothing, and the work stays linear.
const LONG_TAGS: usize = 64;

/// Most bytes of one tag that are searched for attributes.
const MAX_TAG: usize = 2048;

/// Elements that load or run something, or carry handlers in every known kit.
#[rustfmt::skip]
const ACTIVE: &[&[u8]] = &[
    b"animate", b"animatemotion", b"animatetransform", b"applet", b"audio", b"base", b"bgsound", b"binding",
    b"bindings", b"body", b"button", b"details", b"embed", b"event-source", b"feimage", b"foreignobject", b"form",
    b"frame", b"frameset", b"handler", b"html", b"iframe", b"ilayer", b"image", b"img", b"import",
    b"importimplementation", b"input", b"isindex", b"keygen", b"layer", b"link", b"listener", b"listing", b"marquee",
    b"math", b"meta", b"noembed", b"noscript", b"object", b"plaintext", b"portal", b"script", b"scriptlet", b"source",
    b"style", b"stylesheet", b"svg", b"template", b"textarea", b"vbscript", b"video", b"vmlframe", b"xml", b"xmp",
    b"xss",
];

static ACTIVE_NAMES: Table<{ ACTIVE.len() }> = Table::of(ACTIVE);

/// Elements of plain formatting.
#[rustfmt::skip]
const PASSIVE: &[&[u8]] = &[
    b"a", b"article", b"b", b"big", b"blockquote", b"br", b"center", b"code", b"dd", b"div", b"dl", b"dt", b"em",
    b"font", b"h1", b"h2", b"h3", b"h4", b"head", b"hr", b"i", b"label", b"li", b"mast", b"ol", b"option", b"p",
    b"param", b"pre", b"q", b"s", b"section", b"select", b"small", b"span", b"strong", b"sub", b"sup", b"table",
    b"tbody", b"td", b"th", b"title", b"tr", b"tt", b"u", b"ul", b"var",
];

static PASSIVE_NAMES: Table<{ PASSIVE.len() }> = Table::of(PASSIVE);

/// Attributes that take a URL or a document.
const URL_ATTRIBUTES: &[&[u8]] = &[
    b"src",
    b"href",
    b"srcdoc",
    b"formaction",
    b"action",
    b"data",
    b"xlink:href",
    b"background",
    b"poster",
    b"dynsrc",
    b"lowsrc",
    b"style",
    b"x:href",
    b"codebase",
    b"http-equiv",
    b"folder",
    b"datasrc",
    b"from",
    b"to",
    b"values",
    b"classid",
];

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if part.marks.any(Marks::ANGLE) {
        let mut attributes = Attributes::default();
        let openings = places(part.lower, Marks::ANGLE).filter(|at| part.lower[*at] == b'<');
        for (number, at) in openings.enumerate() {
            // Of several in a row the last opens the tag.
            if part.lower.get(at + 1) != Some(&b'<') {
                judge_tag(part, at, number, &mut attributes, found);
            }
        }
    }
    if part.marks.any(Marks::EQUALS) && part.marks.any(Marks::QUOTE.and(Marks::ANGLE).and(Marks::PAREN)) {
        judge_handler(part, found);
    }
    if part.marks.any(Marks::COLON) && matches!(part.place, Place::Path | Place::Name | Place::Value) {
        judge_image(part, found);
    }
}

/// Longest type of an image before its data, with its parameters.
const MAX_IMAGE_TYPE: usize = 64;

/// Images of one part that are undone, for decoding is the dearest look at a byte; what stands behind them is taken to run.
const MAX_IMAGES: usize = 4;

/// What an image has that runs a script or fetches something.
const ACTIVE_IN_IMAGES: [&[u8]; 5] = [b"script", b"href", b"foreignobject", b"&", b"<!"];

/// `data:image/svg+xml;base64,…`: an image in which a browser runs scripts. Badges and logos are written so too; one that is
/// readable to its end and has nothing of a script in it is no more than notable.
fn judge_image(part: &Part<'_>, found: &mut Findings) {
    for (number, at) in part.find_all(b"data:image/svg").enumerate().take(MAX_IMAGES + 1) {
        let (mime, comma) = (&part.lower[at..(at + MAX_IMAGE_TYPE).min(part.lower.len())], &b";base64,"[..]);
        let mut image = Vec::new();
        let readable = number < MAX_IMAGES
            && memmem::find(mime, comma)
                .is_some_and(|mime| base64::decode(&part.text[at + mime + comma.len()..], &mut image));
        image.make_ascii_lowercase();
        let still = readable
            && !ACTIVE_IN_IMAGES.iter().any(|word| memmem::find(&image, word).is_some())
            && !has_handler(&image);
        let span = part.offset + at..part.offset + at + mime.len();
        found.add(Xss, if still { 25 } else { 50 }, span, "has a browser run a script by URL");
    }
}

/// Whether `on…=` stands in `image`, with no letter or digit before it: an attribute that runs a script.
fn has_handler(image: &[u8]) -> bool {
    memmem::find_iter(image, b"on").any(|at| {
        let letters = image[at..].iter().take(40).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let before = at.checked_sub(1).map(|before| image[before]);
        let after = image[at + letters..].trim_ascii_start().first();
        letters > 3 && !before.is_some_and(|byte| byte.is_ascii_alphanumeric()) && after == Some(&b'=')
    })
}

fn judge_tag(part: &Part<'_>, at: usize, number: usize, attributes: &mut Attributes, found: &mut Findings) {
    let rest = &part.lower[at + 1..];
    let span = part.offset + at..part.offset + (at + 64).min(part.lower.len());
    if let Some(declaration) = rest.strip_prefix(b"!") {
        return judge_declaration(part, declaration, span, found);
    }
    // Browsers skip control characters and slashes in front of a name, and so do filters' bypasses.
    let skipped = rest.iter().take(8).take_while(|byte| **byte < 0x20 || matches!(byte, b'/' | b'\\' | b'<')).count();
    let name_at = &rest[skipped..];
    let length = name_at
        .iter()
        .take(24)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'?' | b'%'))
        .count();
    let (name, after) = (&name_at[..length], name_at.get(length).copied());
    if name.first().is_none_or(|byte| !byte.is_ascii_alphabetic()) {
        return;
    }
    // A namespace says as much as the name: `svg:x`.
    let (prefix, name) = match name.iter().position(|byte| *byte == b':') {
        Some(colon) => (&name[..colon], &name[colon + 1..]),
        None => (&b""[..], name),
    };
    let shaped = after.is_none_or(|byte| {
        byte.is_ascii_whitespace()
            || byte < 0x20
            || matches!(byte, b'/' | b'>' | b'\\' | b'"' | b'\'' | b'<' | b'`' | b'=' | b'[')
    });
    if !shaped {
        return;
    }
    let next = || memchr(b'<', rest).unwrap_or(MAX_TAG);
    let longest = if number < LONG_TAGS { MAX_TAG } else { next().clamp(24, MAX_TAG) };
    let tag_end = memchr(b'>', &name_at[..name_at.len().min(longest)]).unwrap_or(name_at.len().min(longest));
    let inside = &name_at[length.min(tag_end)..tag_end];
    let inside_at = at + 1 + skipped + length.min(tag_end);
    let within = inside_at..inside_at + inside.len();
    let known = attributes.of(part);
    let loads = any_within(&known.loading, &within);
    let active = ACTIVE_NAMES.holds(name) || ACTIVE_NAMES.holds(prefix);
    let closes_tag = part.lower.get(at + 1 + skipped + tag_end + 1..).unwrap_or_default();
    let (weight, reason) = if inside.is_empty() && known.idle && prose::goes_on(closes_tag) {
        // "how to use <script> tag in html".
        (20, "names an element")
    } else if any_within(&known.handlers, &within) {
        (75, "opens an element with an event handler")
    } else if (active || loads) && prose::is_free_text(part.name) && known.mute && !is_bare(inside) {
        // People ask about elements; one that runs nothing and fetches nothing from elsewhere is a question.
        (30, "names an element")
    } else if active {
        let certain = loads || name == b"script" || name == b"iframe" || name == b"svg";
        (if certain { 65 } else { 50 }, "opens an element that browsers act on")
    } else if any_within(&known.more_than_links, &within) {
        (55, "opens an element that loads or styles something")
    } else if loads {
        (50, "opens an element with a link")
    } else if PASSIVE_NAMES.holds(name) {
        if skipped > 0 {
            return;
        }
        let closes = part.lower[..at].ends_with(b"\">") || part.lower[..at].ends_with(b"'>");
        (if closes { 55 } else { 25 }, "opens an element of plain formatting")
    } else if !inside.is_empty() {
        (20, "opens something like an element")
    } else {
        return;
    };
    found.add(Xss, weight, span, reason);
}

/// What a whole part says about each of its tags, found out once however many they are: where the attributes stand that
/// judge one, by the beginning of each and the end of its `=`, sorted.
#[derive(Default)]
struct Attributes {
    read: bool,
    /// See [`prose::is_idle`] and [`is_mute`].
    idle: bool,
    mute: bool,
    handlers: Vec<(usize, usize)>,
    /// Those that take a URL.
    loading: Vec<(usize, usize)>,
    /// The same without plain links.
    more_than_links: Vec<(usize, usize)>,
}

impl Attributes {
    fn of(&mut self, part: &Part<'_>) -> &Self {
        let text = part.lower;
        if !std::mem::replace(&mut self.read, true) {
            self.idle = prose::is_idle(text);
            self.mute = is_mute(part);
            self.handlers.extend(handlers(part));
            for equals in memchr_iter(b'=', text) {
                let before = text[..equals].trim_ascii_end();
                let letter = |byte: &u8| byte.is_ascii_alphanumeric();
                let boundary = |length: usize| !before[..before.len() - length].last().is_some_and(letter);
                // The longest name: it begins before any other that ends here, and a tag that holds it holds those.
                let fits = |name: &&&[u8]| before.ends_with(name) && boundary(name.len());
                for name in URL_ATTRIBUTES.iter().filter(fits) {
                    let place = (before.len() - name.len(), equals + 1);
                    self.loading.push(place);
                    if **name != *b"href" {
                        self.more_than_links.push(place);
                    }
                }
            }
            self.loading.sort_unstable();
            self.more_than_links.sort_unstable();
        }
        self
    }
}

/// Whether one of `places`, which are sorted and whose ends are too, lies in `within`.
fn any_within(places: &[(usize, usize)], within: &std::ops::Range<usize>) -> bool {
    let first = places.partition_point(|(start, _)| *start < within.start);
    places.get(first).is_some_and(|(_, end)| *end <= within.end)
}

/// Whether nothing in `part` runs or fetches: no call, no script by URL, no address of another host.
fn is_mute(part: &Part<'_>) -> bool {
    let calls = part.lower.iter().any(|byte| matches!(byte, b'(' | b'`'));
    let elsewhere = [&b"//"[..], b"script:", b"data:", b"&#", b"/>", b"srcdoc"].iter().any(|mark| part.holds(mark));
    !calls && !elsewhere && !part.holds(b"</")
}

/// `<img src=x>`: an address without quotes is what kits write.
fn is_bare(inside: &[u8]) -> bool {
    memchr(b'=', inside).is_some_and(|at| !matches!(inside.get(at + 1), Some(b'"' | b'\'')))
}

/// `<!--#exec`, `<!doctype`, `<!entity`, `<![cdata[`, `<!--`.
fn judge_declaration(part: &Part<'_>, declaration: &[u8], span: std::ops::Range<usize>, found: &mut Findings) {
    if let Some(directive) = declaration.strip_prefix(b"--") {
        let directive = directive.trim_ascii_start();
        if let Some(name) = directive.strip_prefix(b"#") {
            let known: [&[u8]; 10] =
                [b"exec", b"include", b"echo", b"config", b"printenv", b"fsize", b"flastmod", b"set", b"if", b"elif"];
            if known.iter().any(|directive| name.trim_ascii_start().starts_with(directive)) {
                found.add(Ssi, 80, span, "contains a server-side include");
            }
        } else if !part.holds(b"-->") && part.place != Place::Path {
            found.add(Xss, 20, span, "opens a comment that never ends");
        }
    } else if declaration.starts_with(b"entity") {
        found.add(Xxe, 75, span, "declares an XML entity");
    } else if declaration.starts_with(b"doctype") {
        let elsewhere = memmem::find(declaration, b"://").is_some() && memmem::find(declaration, b"w3.org").is_none();
        let external =
            elsewhere || memmem::find(declaration, b"system").is_some() || memmem::find(declaration, b"[").is_some();
        found.add(Xxe, if external { 65 } else { 40 }, span, "declares a document type");
    } else if declaration.starts_with(b"[cdata[") {
        let asked =
            prose::is_free_text(part.name) && prose::is_idle(&declaration[7..declaration.len().min(prose::MAX_TOLD)]);
        found.add(Xxe, if asked { 30 } else { 55 }, span, "contains an XML character section");
    } else if declaration.starts_with(b"element") {
        found.add(Xxe, 40, span, "declares an XML element");
    }
}

/// Where `on…=` stands that begins a word, with at least three letters of event name: its beginning, and the end of its `=`.
fn handlers<'p>(part: &'p Part<'_>) -> impl Iterator<Item = (usize, usize)> + 'p {
    let text = part.lower;
    part.find_all(b"on").filter_map(move |at| {
        let boundary = at
            .checked_sub(1)
            .is_none_or(|before| !text[before].is_ascii_alphanumeric() && !matches!(text[before], b'_' | b'-' | b'.'));
        let rest = &text[at + 2..];
        let letters = rest.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let spaces =
            rest[letters..].iter().take(16).take_while(|byte| byte.is_ascii_whitespace() || **byte < 0x20).count();
        let end = at + 2 + letters + spaces;
        (boundary && letters >= 3 && text.get(end) == Some(&b'=')).then_some((at, end + 1))
    })
}

/// `" onfocus=alert(1) x="`: a handler without a tag of its own, because the text stands in one already.
fn judge_handler(part: &Part<'_>, found: &mut Findings) {
    for (at, _) in handlers(part) {
        let name_length = part.lower[at..].iter().take(40).take_while(|byte| **byte != b'=').count();
        let name = part.lower[at..at + name_length].trim_ascii_end();
        let closes =
            part.lower[..at].iter().rev().take(64).any(|byte| matches!(byte, b'"' | b'\'' | b'>' | b'<' | b'`'));
        let known = EVENTS.iter().any(|event| name[2..].starts_with(event));
        let called = || {
            let script = part.lower[at + name_length..].get(1..).unwrap_or_default().trim_ascii_start();
            let word = script
                .iter()
                .take(32)
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'))
                .count();
            word > 0 && script.get(word) == Some(&b'(')
        };
        let weight = match (closes, known) {
            (true, true) => 65,
            (true, false) => 50,
            // Where the page put the text in no quotes, a blank is enough to leave it.
            (false, true) if called() => 50,
            (false, true) => 40,
            (false, false) => 10,
        };
        found.add(Xss, weight, part.offset + at..part.offset + at + name_length, "sets an event handler");
    }
}

/// How browser events begin.
const EVENTS: &[&[u8]] = &[
    b"abort",
    b"activate",
    b"after",
    b"animation",
    b"auxclick",
    b"before",
    b"begin",
    b"blur",
    b"bounce",
    b"canplay",
    b"change",
    b"click",
    b"close",
    b"contextmenu",
    b"copy",
    b"cut",
    b"data",
    b"dblclick",
    b"drag",
    b"drop",
    b"end",
    b"error",
    b"filter",
    b"finish",
    b"focus",
    b"form",
    b"fullscreen",
    b"hash",
    b"help",
    b"input",
    b"invalid",
    b"key",
    b"layout",
    b"load",
    b"lose",
    b"message",
    b"mouse",
    b"move",
    b"offline",
    b"online",
    b"page",
    b"paste",
    b"play",
    b"pointer",
    b"popstate",
    b"progress",
    b"property",
    b"ready",
    b"redo",
    b"repeat",
    b"reset",
    b"resize",
    b"row",
    b"scroll",
    b"search",
    b"seek",
    b"select",
    b"show",
    b"start",
    b"stop",
    b"storage",
    b"submit",
    b"syncrestored",
    b"time",
    b"toggle",
    b"touch",
    b"transition",
    b"undo",
    b"unload",
    b"url",
    b"volume",
    b"wheel",
    b"pointerrawupdate",
];

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::*;
    use crate::request::AttackClass;

    fn verdict(text: &str) -> Option<(AttackClass, u8)> {
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place: Place::Value,
            text: text.as_bytes(),
            lower: lower.as_bytes(),
            offset: 0,
            name: b"x",
            path: b"/",
            marks: marks_of(text.as_bytes()),
            pairs: &super::super::pairs::Pairs::UNKNOWN,
            tricks: Tricks::default(),
            after_double_ampersand: false,
        };
        let mut found = Findings::default();
        judge(&part, &mut found);
        found.sum()
    }

    #[test]
    fn markup_is_told_by_what_it_does() {
        let check = |text: &str, expected: Option<AttackClass>| {
            assert_eq!(
                verdict(text).filter(|(_, score)| *score >= 50).map(|(class, _)| class),
                expected,
                "{text} {:?}",
                verdict(text)
            );
        };
        check("<script>alert(1)</script>", Some(Xss));
        check("<ScRiPt src=//x.example>", Some(Xss));
        check("<svg/onload=alert(1)>", Some(Xss));
        check("<x onclick=alert(1)>y", Some(Xss));
        check("<img src=x onerror\t=alert(1)>", Some(Xss));
        check("\" autofocus onfocus=alert(1) x=\"", Some(Xss));
        check("<a href=x onmouseover=f()>", Some(Xss));
        check("<!--#exec cmd=\"ls\" -->", Some(Ssi));
        check("<!DOCTYPE x [<!ENTITY y SYSTEM \"file:///etc/passwd\">]>", Some(Xxe));
        check("<![CDATA[x]]>", Some(Xxe));
        check("a < b and c > d", None);
        check("Vec<T> and Option<u8>", None);
        check("<b>bold</b>", None);
        check("i <3 you", None);
        check("location=north&conversion=1", None);
        check("<?xml version=\"1.0\"?>", None);
    }
}
