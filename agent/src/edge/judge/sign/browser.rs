//! Words of scripts for a browser.

use super::Edge::{None, Scheme, Script, Shown};
use super::{Group, Places, evidence};
use crate::request::AttackClass::Xss;

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(Xss, 50, "has a browser run a script by URL", Places::TARGET, Scheme, &[
        "javascript:", "vbscript:", "livescript:", "mocha:",
    ]),
    evidence(Xss, 50, "has a browser run a script by URL", Places::TARGET, None, &[
        "javascript&", "javascript#", "data:text/html",
        "jscript:", "feed:javascript", "view-source:", "data:text/javascript",
    ]),
    evidence(Xss, 50, "calls what browsers show a script's success with", Places::TARGET, Shown, &[
        "alert(", "alert.apply(", "alert?.(", "alert`", "prompt(", "prompt`", "confirm(", "confirm`", "alert.call", "alert (", "[alert]",
        "(alert)", "alert&", "msgbox", "alert//", "alert/*",
    ]),
    evidence(Xss, 50, "touches the document of a browser", Places::QUERY, Script, &[
        "document.cookie", "atob(", "btoa(", "document.domain", "document.write", "document.location", "document.url",
        "document.body", "document[", "document.forms", "document.getelement", "window.location", "window.name",
        "window[", "location.href", "location.hash", "location=", "location.replace", "localstorage.",
        "sessionstorage.", ".innerhtml", ".outerhtml", "insertadjacenthtml", "createelement(", "self.location",
        "top.location", "parent.location", "settimeout(", "setinterval(", "execscript(", "navigator.sendbeacon",
        "__definegetter__", "__definesetter__", "__lookupgetter__", ".fromcharcode", "decodeuri(", "eval(name",
        "jquery.getscript", "$.getscript", "importscripts(", "document.title", "showmodaldialog", "window.open(",
        "new image", "addeventlistener(", "document.create",
    ]),
    evidence(Xss, 60, "contains a script element", Places::TARGET, Script, &["<script", "script>"]),
    evidence(Xss, 50, "has a style sheet run a script", Places::TARGET, Script, &["@import", "behavior:"]),
    evidence(Xss, 50, "has a style sheet run a script", Places::TARGET, None, &[
        "expression(", "-moz-binding", "behavior:url", "behaviour:url", "url(javascript",
        "animation-name:", "style=xss:", "expr/*", "-o-link:",
    ]),
    evidence(Xss, 60, "contains a script element in another encoding", Places::TARGET, None, &[
        "+adw-", " adw-", "<?import", "\\u003cscript", "</script", "fscommand", "seeksegmenttime",
        "\u{bc}script", "%253cscript",
    ]),
    evidence(Xss, 50, "calls what browsers show a script's success with", Places::QUERY, None, &[
        ".call`", ".call `", "reflect.apply", "reflect.sort", "${alert", "${ alert", "ev:event", "ev:handler",
        "x:expression", "expression\\28", "res://", "onerror=alert", "onerror=eval", "onerror=confirm", "=alert;",
        "=alert,", "=prompt;", "=prompt,", "=confirm;", "=confirm,", "=eval;", "=eval,", "throw onerror", "scscriptript", "<scr<script", "<script<script", ".find(alert", ".map(alert",
        ".foreach(alert", ".filter(alert", ".some(alert", ".every(alert", "new function`", "/.source+/",
        ".source](",
    ]),
];
