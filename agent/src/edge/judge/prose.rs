//! Telling text that people write from what a machine is meant to run: they stop to go on in words.

/// Parameters in which people write what they look for or want to say.
pub(super) fn is_free_text(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 29] = [
        b"q",
        b"query",
        b"s",
        b"search",
        b"term",
        b"terms",
        b"text",
        b"keyword",
        b"keywords",
        b"kw",
        b"message",
        b"comment",
        b"title",
        b"subject",
        b"description",
        b"question",
        b"search_query",
        b"wd",
        b"k",
        b"sq",
        b"searchterm",
        b"searchtext",
        b"searchword",
        b"search_term",
        b"search_text",
        b"search_keywords",
        b"motcle",
        b"phrase",
        // The title of the page that a tracker was told of, which has what was searched for in it (Matomo).
        b"action_name",
    ];
    NAMES.contains(&name)
}

/// Whether a blank and two words follow, of letters alone: `… returns null`.
pub(super) fn goes_on(rest: &[u8]) -> bool {
    let word = |word: &&[u8]| word.len() > 1 && word.iter().all(u8::is_ascii_alphabetic);
    rest.starts_with(b" ") && rest.split(|byte| *byte == b' ').skip(1).take(2).filter(word).count() == 2
}

/// Most bytes that are looked over for what a sentence lacks. It is asked for every declaration and every command of a
/// part: without the bound many of them would cost the part's length each.
pub(super) const MAX_TOLD: usize = 512;

/// Whether nothing in `text` computes, calls, assigns or ends a statement: no bracket, quote, operator or semicolon.
pub(super) fn is_idle(text: &[u8]) -> bool {
    !text.iter().any(|byte| {
        matches!(byte, b'(' | b')' | b'`' | b'=' | b';' | b'\'' | b'"' | b'{' | b'}' | b'[' | b'|' | b'&' | b'\\')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_are_prose() {
        let check = |rest: &str, expected: bool| assert_eq!(goes_on(rest.as_bytes()), expected, "{rest}");
        check(" returns null", true);
        check(" tag in html", true);
        check(" tag", false);
        check("returns null", false);
        check(" -c 3", false);
        check("", false);
    }

    #[test]
    fn text_without_syntax_is_idle() {
        assert!(is_idle(b"how to use <script> tag in html"));
        assert!(!is_idle(b"<script>alert(1)"));
        assert!(!is_idle(b"<script src=x>"));
    }
}
