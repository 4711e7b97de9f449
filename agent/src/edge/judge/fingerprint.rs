//! Paths of known-exploited vulnerabilities.
//!
//! For many of them the log shows nothing but the path and method: the payload is in a body or a header. A match
//! therefore says "somebody tried this product's hole", not "it worked": the correlator weighs it by whether the
//! host runs the product and by what the target answered. Facts: the vendors' advisories, CISA's catalogue of
//! known-exploited vulnerabilities.

mod appliance;
mod business;
mod platform;

use std::ops::Range;

use memchr::memmem;

use super::finding::{Finding, Findings, Ground};
use super::target::{Place, Target};
use super::traversal::first_view;
use crate::request::AttackClass::CvePath;

/// One way into one product.
#[derive(Debug)]
pub(super) struct Fingerprint {
    /// CVE and product, or the product alone.
    reference: &'static str,
    /// Method that the way in needs; any when absent.
    method: Option<&'static [u8]>,
    /// Stands in the decoded path (or query, see `in_query`), lower case; a line feed where a parameter's name ends.
    pub(super) path: &'static str,
    /// Stands somewhere in the decoded request too; empty when the path is enough.
    also: &'static str,
    /// Points.
    weight: u8,
    /// `path` may stand in the query.
    pub(super) in_query: bool,
    /// The request's path must begin with `path`: a name that is also an ordinary word.
    first: bool,
    /// An interface that the product's own clients ask too, who go deeper or say what they want: then no more than notable.
    interface: bool,
}

/// Points for an [`Fingerprint::interface`] that is asked as a client does.
const OF_A_CLIENT: u8 = 40;

const fn at(
    reference: &'static str,
    method: Option<&'static [u8]>,
    path: &'static str,
    also: &'static str,
    weight: u8,
    in_query: bool,
) -> Fingerprint {
    Fingerprint { reference, method, path, also, weight, in_query, first: false, interface: false }
}

/// `path` anywhere in the path.
const fn holds(reference: &'static str, path: &'static str, also: &'static str, weight: u8) -> Fingerprint {
    at(reference, None, path, also, weight, false)
}

/// `path` at the beginning of the path.
const fn begins(reference: &'static str, path: &'static str, also: &'static str, weight: u8) -> Fingerprint {
    Fingerprint { first: true, ..at(reference, None, path, also, weight, false) }
}

/// A way in that leads through an interface for clients.
const fn interface(entry: Fingerprint) -> Fingerprint {
    Fingerprint { interface: true, ..entry }
}

/// `path` anywhere in the path, asked for with `method`.
const fn method(
    method: &'static [u8],
    reference: &'static str,
    path: &'static str,
    also: &'static str,
    weight: u8,
) -> Fingerprint {
    at(reference, Some(method), path, also, weight, false)
}

/// `text` anywhere in the request.
const fn query(reference: &'static str, text: &'static str, also: &'static str, weight: u8) -> Fingerprint {
    at(reference, None, text, also, weight, true)
}

/// Every fingerprint.
pub(super) fn all() -> impl Iterator<Item = &'static Fingerprint> {
    [TABLE, platform::TABLE, appliance::TABLE, business::TABLE].into_iter().flatten()
}

impl Fingerprint {
    /// Judges a request that holds `path` at `span`.
    pub(super) fn judge(
        &'static self,
        target: &Target,
        method: &[u8],
        span: Range<usize>,
        seen: &mut Seen,
        found: &mut Findings,
    ) {
        let text = target.lower();
        let reason = "takes a path into a product that is known to be exploited";
        let other_method = self.method.is_some_and(|needed| !method.eq_ignore_ascii_case(needed));
        if other_method || self.first && span.start > 0 || found.has(CvePath, self.weight, reason) {
            return;
        }
        // Code hosts and manuals show files of every name.
        let shown = self.also.is_empty() && seen.shows(text, span.start);
        if shown || seen.lacks(self, text) {
            return;
        }
        // The second word may not be the first one over again.
        let also = self.also.as_bytes();
        let elsewhere =
            || memmem::find(&text[..span.start], also).is_some() || memmem::find(&text[span.end..], also).is_some();
        if also.is_empty() || elsewhere() || memmem::find(self.path.as_bytes(), also).is_some() {
            let client = self.interface && asks_as_client(target, span.end);
            let weight = if client { self.weight.min(OF_A_CLIENT) } else { self.weight };
            let ground = Ground::Class(CvePath);
            found.put(Finding { ground, weight, span, reason, reference: Some(self.reference) });
        }
    }
}

/// Parts of a request that are looked at for a parameter with a value: the first few say what the request is.
const MAX_PARAMETERS: usize = 8;

/// Whether the path goes on behind `end` by more than two names, or a parameter has a value: who looks for an open interface asks
/// for the list of what is there.
fn asks_as_client(target: &Target, end: usize) -> bool {
    let path = target.span(0).end;
    let deeper = target.lower()[end.min(path)..path].split(|byte| *byte == b'/').filter(|name| !name.is_empty()).nth(2);
    let says = |part: usize| target.place(part) == Place::Value && !target.span(part).is_empty();
    deeper.is_some() || (1..target.len().min(1 + MAX_PARAMETERS)).any(says)
}

/// Fingerprints without their second word that are remembered: what a request repeats is a few of them.
const MAX_LACKING: usize = 8;

/// What was found out about one request: a hostile one may repeat its words, and each of these searches goes through all
/// of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Where the first view of a code host or a manual ends, if there is one; looked for once.
    view: Option<Option<usize>>,
    /// Fingerprints whose second word is nowhere, the last ones first.
    lacking: [Option<&'static Fingerprint>; MAX_LACKING],
}

impl Seen {
    /// Whether `text` is before `end` a page of a code host or a manual.
    pub(super) fn shows(&mut self, text: &[u8], end: usize) -> bool {
        self.view.get_or_insert_with(|| first_view(text)).is_some_and(|view| view <= end)
    }

    /// Whether the second word of `entry` is nowhere in `text`.
    fn lacks(&mut self, entry: &'static Fingerprint, text: &[u8]) -> bool {
        if self.lacking.iter().flatten().any(|lacking| std::ptr::eq(*lacking, entry)) {
            return true;
        }
        let lacks = !entry.also.is_empty() && memmem::find(text, entry.also.as_bytes()).is_none();
        if lacks {
            self.lacking.rotate_right(1);
            self.lacking[0] = Some(entry);
        }
        lacks
    }
}

/// The table.
#[rustfmt::skip]
const TABLE: &[Fingerprint] = &[
    at("CVE-2022-22963 (Spring Cloud Function)", Some(b"POST"), "/functionrouter", "", 55, false),
    at("CVE-2024-38816 (Spring)", None, "/static/link/", "../", 60, false),
    at("CVE-2022-26134 (Confluence)", None, "/${", "java", 65, true),
    at("CVE-2021-26084 (Confluence)", Some(b"POST"), "/pages/createpage-entervariables.action", "", 60, false),
    at("CVE-2021-26084 (Confluence)", Some(b"POST"), "/pages/doenterpagevariables.action", "", 60, false),
    at("CVE-2023-22515 (Confluence)", None, "/server-info.action", "bootstrapstatusprovider", 70, false),
    at("CVE-2023-22515 (Confluence)", None, "/setup/setupadministrator.action", "", 60, false),
    at("CVE-2023-22518 (Confluence)", None, "/json/setup-restore.action", "", 60, false),
    at("CVE-2023-22527 (Confluence)", None, "/template/aui/text-inline.vm", "", 60, false),
    at("CVE-2021-26086 (Jira)", None, "/_/;/", "web-inf", 70, false),
    at("CVE-2022-36804 (Bitbucket)", None, "/archive", "--exec", 70, false),
    at("CVE-2022-36804 (Bitbucket)", None, "/archive", "--remote", 60, false),
    at("CVE-2021-41773 (Apache HTTP Server)", None, "/cgi-bin/.", "bin/sh", 75, false),
    at("CVE-2021-42013 (Apache HTTP Server)", None, "/icons/.", "..", 60, false),
    at("CVE-2017-9841 (PHPUnit)", None, "/phpunit/", "eval-stdin.php", 70, false),
    at("CVE-2018-20062 (ThinkPHP)", None, "invokefunction", "call_user_func", 75, true),
    at("CVE-2018-20062 (ThinkPHP)", None, "\\think\\app", "", 70, true),
    at("CVE-2022-47945 (ThinkPHP)", None, "+config-create", "pearcmd", 60, true),
    at("CVE-2021-3129 (Laravel Ignition)", None, "/_ignition/execute-solution", "", 65, false),
    at("CVE-2024-52301 (Laravel)", None, "--env=", "", 50, true),
    at("CVE-2018-7600 (Drupal)", None, "element_parents", "#value", 70, true),
    at("CVE-2019-17558 (Solr)", None, "/solr/", "v.template", 70, false),
    at("CVE-2019-0193 (Solr)", None, "/dataimport", "full-import", 60, false),
    at("CVE-2020-14882 (WebLogic)", None, "console.portal", "..", 70, false),
    at("CVE-2020-14882 (WebLogic)", None, "/console/css/", "console.portal", 60, false),
    at("CVE-2017-10271 (WebLogic)", None, "/wls-wsat/", "", 55, false),
    at("CVE-2019-2725 (WebLogic)", None, "/_async/asyncresponseservice", "", 60, false),
    at("CVE-2017-12149 (JBoss)", None, "/invoker/readonly", "", 60, false),
    at("CVE-2015-7501 (JBoss)", None, "/invoker/jmxinvokerservlet", "", 60, false),
    at("CVE-2013-4810 (JBoss)", None, "/invoker/ejbinvokerservlet", "", 60, false),
    at("CVE-2017-12615 (Tomcat)", Some(b"PUT"), ".jsp", "", 60, false),
    at("CVE-2025-24813 (Tomcat)", Some(b"PUT"), ".session", "", 60, false),
    at("CVE-2018-1000861 (Jenkins)", None, "/descriptorbyname/", "checkscript", 65, false),
    at("CVE-2019-1003000 (Jenkins)", None, "/securityrealm/user/", "/descriptorbyname/", 60, false),
    at("CVE-2024-23897 (Jenkins)", Some(b"POST"), "/cli", "remoting\nfalse", 60, false),
    at("CVE-2022-1388 (BIG-IP)", None, "/mgmt/tm/util/bash", "", 65, false),
    at("CVE-2020-5902 (BIG-IP)", None, "/tmui/", "..;", 75, false),
    at("CVE-2023-46747 (BIG-IP)", None, "/tmui/control/form", "", 55, false),
    at("CVE-2019-19781 (Citrix ADC)", None, "/vpns/", "..", 70, false),
    at("CVE-2023-3519 (Citrix ADC)", None, "/gwtest/formssso", "target", 65, false),
    at("CVE-2023-4966 (Citrix ADC)", None, "/oauth/idp/.well-known/openid-configuration", "", 40, false),
    at("CVE-2025-5777 (Citrix ADC)", Some(b"POST"), "/p/u/doauthentication.do", "", 50, false),
    at("CVE-2023-24489 (ShareFile)", None, "upload.aspx", "uploadid", 60, false),
    at("CVE-2021-26855 (Exchange)", None, "/owa/auth/x.js", "", 60, false),
    at("CVE-2021-26855 (Exchange)", None, "/ecp/y.js", "", 60, false),
    at("CVE-2021-34473 (Exchange)", None, "/autodiscover/autodiscover.json", "/mapi/", 65, false),
    at("CVE-2021-34473 (Exchange)", None, "/autodiscover/autodiscover.json", "/ews/", 65, false),
    at("CVE-2021-34473 (Exchange)", None, "/autodiscover/autodiscover.json", "/owa/", 65, false),
    at("CVE-2021-34473 (Exchange)", None, "/autodiscover/autodiscover.json", "/ecp/", 65, false),
    at("CVE-2021-34473 (Exchange)", None, "/autodiscover/autodiscover.json", "\nautodiscover/", 65, false),
    at("CVE-2025-53770 (SharePoint)", Some(b"POST"), "/_layouts/15/toolpane.aspx", "", 65, false),
    at("CVE-2025-53770 (SharePoint)", None, "spinstall0.aspx", "", 65, false),
    at("CVE-2021-21972 (vCenter)", None, "/ui/vropspluginui/rest/services/uploadova", "", 65, false),
    at("CVE-2021-22005 (vCenter)", None, "/analytics/telemetry/ph/api/hyper/send", "", 65, false),
    at("CVE-2021-21985 (vCenter)", None, "/ui/h5-vsan/rest/proxy/service/", "", 60, false),
    at("CVE-2022-22954 (Workspace ONE)", None, "/catalog-portal/ui/oauth/verify", "deviceudid", 65, false),
    at("CVE-2018-13379 (FortiOS)", None, "/remote/fgt_lang", "..", 70, false),
    at("CVE-2022-40684 (FortiOS)", None, "/api/v2/cmdb/system/admin", "", 55, false),
    at("CVE-2025-64446 (FortiWeb)", None, "cgi-bin/fwbcgi", "", 60, false),
    at("CVE-2025-25257 (FortiWeb)", None, "/api/fabric/device/status", "", 50, false),
    at("CVE-2019-11510 (Pulse Secure)", None, "/dana-na/", "..", 70, false),
    at("CVE-2019-11510 (Pulse Secure)", None, "/dana/html5acc/guacamole", "", 60, false),
    at("CVE-2023-46805 (Ivanti Connect Secure)", None, "/api/v1/totp/user-backup-code/", "", 65, false),
    at("CVE-2024-21893 (Ivanti Connect Secure)", Some(b"POST"), "/dana-ws/saml20.ws", "", 60, false),
    at("CVE-2024-22024 (Ivanti Connect Secure)", None, "/dana-na/auth/saml-sso.cgi", "", 50, false),
    at("CVE-2023-35078 (Ivanti EPMM)", None, "/mifs/aad/api/v2/", "", 60, false),
    at("CVE-2023-35082 (Ivanti EPMM)", None, "/mifs/asfv3/api/v2/", "", 60, false),
    at("CVE-2025-4427 (Ivanti EPMM)", None, "/api/v2/featureusage", "format", 55, false),
    at("CVE-2026-1281 (Ivanti EPMM)", None, "/mifs/c/appstore/fob/", "", 55, false),
    at("CVE-2024-8190 (Ivanti CSA)", Some(b"POST"), "/gsb/datetime.php", "", 60, false),
    at("CVE-2024-7593 (Ivanti vTM)", None, "/apps/zxtm/wizard.fcgi", "", 60, false),
    at("CVE-2024-3400 (PAN-OS)", None, "/ssl-vpn/hipreport.esp", "", 55, false),
    at("CVE-2024-0012 (PAN-OS)", None, "/php/utils/createremoteappwebsession.php", "", 65, false),
    at("CVE-2023-34362 (MOVEit)", None, "/moveitisapi/moveitisapi.dll", "", 60, false),
    at("CVE-2023-34362 (MOVEit)", Some(b"POST"), "/guestaccess.aspx", "", 50, false),
    at("CVE-2023-34362 (MOVEit)", None, "/human2.aspx", "", 65, false),
    at("CVE-2023-40044 (WS_FTP)", Some(b"POST"), "/aht/", "", 50, false),
    at("CVE-2024-0204 (GoAnywhere)", None, "/goanywhere/", "..;", 70, false),
    at("CVE-2023-0669 (GoAnywhere)", None, "/goanywhere/lic/accept", "", 60, false),
    at("CVE-2024-1709 (ScreenConnect)", None, "/setupwizard.aspx/", "", 60, false),
    at("CVE-2023-42793 (TeamCity)", None, "/rpc2", "app/rest", 60, false),
    at("CVE-2024-27198 (TeamCity)", None, ";.jsp", "", 55, false),
    at("CVE-2023-20198 (IOS XE)", None, "webui_wsma_http", "", 65, true),
    at("CVE-2022-46169 (Cacti)", None, "/remote_agent.php", "poller_id", 60, false),
    at("CVE-2023-1389 (TP-Link Archer)", None, "/cgi-bin/luci/;stok=/locale", "", 60, true),
    at("CVE-2018-10562 (GPON)", None, "/gponform/diag_form", "", 60, false),
    at("CVE-2020-9054 (Zyxel)", None, "/cgi-bin/weblogin.cgi", "", 50, false),
    at("CVE-2023-33617 (Parks)", None, "/boaform/admin/formping", "", 60, false),
    at("CVE-2024-3273 (D-Link NAS)", None, "/cgi-bin/nas_sharing.cgi", "", 60, false),
    at("CVE-2024-51567 (CyberPanel)", None, "/databases/upgrademysqlstatus", "", 60, false),
    at("CVE-2024-51378 (CyberPanel)", None, "/getresetstatus", "", 50, false),
    at("CVE-2023-38646 (Metabase)", Some(b"POST"), "/api/setup/validate", "", 60, false),
    at("CVE-2023-51467 (OFBiz)", None, "/webtools/control/", "programexport", 65, false),
    at("CVE-2023-49070 (OFBiz)", None, "/webtools/control/xmlrpc", "", 60, false),
    at("CVE-2023-51467 (OFBiz)", None, "requirepasswordchange\ny", "", 50, true),
    at("CVE-2024-36401 (GeoServer)", None, "/geoserver/", "exec(", 65, false),
    at("CVE-2024-27348 (HugeGraph)", Some(b"POST"), "/gremlin", "", 50, false),
    at("CVE-2025-3248 (Langflow)", None, "/api/v1/validate/code", "", 60, false),
    at("CVE-2024-8181 (Flowise)", None, "/api/v1/apikey", "/api/v1/ping", 60, false),
    at("CVE-2025-59528 (Flowise)", Some(b"POST"), "/api/v1/node-load-method/custommcp", "", 60, false),
    at("CVE-2025-24893 (XWiki)", None, "/solrsearch", "{{", 60, false),
    at("CVE-2025-31324 (SAP NetWeaver)", None, "/developmentserver/metadatauploader", "", 65, false),
    at("CVE-2025-61882 (Oracle EBS)", None, "/oa_html/configurator/uiservlet", "", 55, false),
    at("CVE-2025-61882 (Oracle EBS)", None, "/oa_html/help/..", "", 65, false),
    at("CVE-2021-22205 (GitLab)", Some(b"POST"), "/uploads/user", "", 45, false),
    at("CVE-2021-40539 (ManageEngine)", None, "/./restapi/", "", 65, false),
    at("CVE-2022-47966 (ManageEngine)", Some(b"POST"), "/samlresponseservlet", "", 55, false),
    at("CVE-2019-18935 (Telerik UI)", None, "/telerik.web.ui.webresource.axd", "type\nrau", 60, false),
    at("CVE-2021-43798 (Grafana)", None, "/public/plugins/", "..", 65, false),
    at("CVE-2022-35914 (GLPI)", None, "htmlawedtest.php", "", 60, false),
    at("CVE-2025-49113 (Roundcube)", None, "_action\nupload", "_from", 50, true),
    at("CVE-2025-57819 (FreePBX)", None, "/admin/ajax.php", "freepbx\\modules", 60, false),
    at("CVE-2025-47812 (Wing FTP)", Some(b"POST"), "/loginok.html", "", 50, false),
    at("CVE-2025-31161 (CrushFTP)", None, "/webinterface/function/", "getuserlist", 60, false),
    at("CVE-2024-57727 (SimpleHelp)", None, "/toolbox-resource/", "..", 65, false),
    at("CVE-2024-41713 (MiCollab)", None, "/npm-pwg/", "..;", 65, false),
    at("CVE-2023-6553 (WordPress Backup Migration)", None, "/backup-backup/includes/backup-heart.php", "", 60, false),
    at("CVE-2024-27956 (WordPress Automatic)", None, "/wp-automatic/inc/csv.php", "", 60, false),
    at("CVE-2023-4634 (WordPress Media Library Assistant)", None, "mla-stream-image.php", "mla_stream_file", 60, true),
    at("CVE-2020-11738 (WordPress Duplicator)", None, "duplicator_download", "..", 60, true),
    at("CVE-2020-25213 (WordPress File Manager)", None, "/wp-file-manager/lib/php/connector.minimal.php", "", 60, false),
    at("CVE-2025-37164 (HPE OneView)", None, "/rest/id-pools/executecommand", "", 60, false),
    at("CVE-2020-17496 (vBulletin)", None, "/ajax/render/widget_tabbedcontainer_tab_panel", "", 60, false),
    at("CVE-2019-16759 (vBulletin)", None, "widget_php", "widgetconfig", 60, true),
    at("CVE-2014-6287 (HTTP File Server)", None, "{.exec", "", 75, true),
    at("CVE-2014-6287 (HTTP File Server)", None, "{.cookie", "", 60, true),
    at("Struts devMode", None, "debug\ncommand", "expression\n", 65, true),
    at("CVE-2018-11776 (Struts)", None, "redirect:${", "", 70, true),
    at("CVE-2018-11776 (Struts)", None, "redirectaction:${", "", 70, true),
    at("CVE-2013-2251 (Struts)", None, "action:${", "", 70, true),
    at("CVE-2013-2251 (Struts)", None, "action:%{", "", 70, true),
    at("CVE-2018-11776 (Struts)", None, "redirect:%{", "", 70, true),
    at("CVE-2020-8515 (DrayTek)", None, "/cgi-bin/mainfunction.cgi", "", 55, false),
    at("CVE-2021-20090 (Arcadyan)", None, "/images/..", "setup", 60, false),
    at("CVE-2020-10148 (SolarWinds Orion)", None, "/web.config.i18n.ashx", "", 60, false),
    at("CVE-2021-44529 (Ivanti CSA)", None, "/client/index.php", "", 40, false),
    at("dynamic linker", None, "ld_debug\n", "", 50, true),
    at("CVE-2021-38647 (OMI)", Some(b"POST"), "/wsman", "", 45, false),
    at("Struts developer mode", None, "/devmode.action", "", 55, false),
    at("CVE-2020-35729 (Klog)", None, "/actions/authenticate.php", "", 45, false),
    at("CVE-2015-1427 (Elasticsearch)", None, "/_search", "script_fields", 60, false),
    at("CVE-2021-32305 (WebSVN)", None, "/websvn/search.php", "search\n", 45, false),
    at("CVE-2022-29464 (WSO2)", Some(b"POST"), "/fileupload/toolsany", "", 65, false),
    at("CVE-2022-30525 (Zyxel)", Some(b"POST"), "/ztp/cgi-bin/handler", "", 65, false),
    at("CVE-2021-35464 (ForgeRock AM)", None, "/ccversion/version", "jato.pagesession", 65, false),
    at("CVE-2019-2618 (WebLogic)", None, "/bea_wls_deployment_internal", "", 50, false),
    at("CVE-2022-41040 (Exchange)", None, "/autodiscover/autodiscover.json", "powershell", 70, false),
    at("CVE-2023-29357 (SharePoint)", None, "/_vti_bin/client.svc/processquery", "", 40, false),
    at("CVE-2020-3452 (Cisco ASA)", None, "/+cscot+/translation-table", "", 60, false),
    at("CVE-2020-3452 (Cisco ASA)", None, "/+cscoe+/", "..", 65, false),
    at("CVE-2021-36260 (Hikvision)", Some(b"PUT"), "/sdk/weblanguage", "", 65, false),
    at("CVE-2017-7921 (Hikvision)", None, "/system/configurationfile", "auth\n", 60, false),
    at("CVE-2020-25078 (D-Link)", None, "/config/getuser", "index", 55, false),
    at("CVE-2015-2051 (D-Link)", Some(b"POST"), "/hnap1", "", 55, false),
    at("CVE-2016-20017 (D-Link)", None, "/login.cgi", "cli\n", 60, false),
    at("Hadoop YARN", Some(b"POST"), "/ws/v1/cluster/apps/new-application", "", 55, false),
    at("CVE-2020-13942 (Unomi)", Some(b"POST"), "/context.json", "", 40, false),
    at("CVE-2021-26295 (OFBiz)", Some(b"POST"), "/webtools/control/soapservice", "", 60, false),
    at("CVE-2021-40438 (Apache HTTP Server)", None, "?unix:", "http", 70, true),
    at("CVE-2022-24112 (APISIX)", None, "/apisix/batch-requests", "", 55, false),
    at("CVE-2021-45232 (APISIX)", None, "/apisix/admin/migrate", "", 60, false),
    at("CVE-2023-32315 (Openfire)", None, "/setup/setup-s/", "..", 65, false),
    at("CVE-2024-4040 (CrushFTP)", None, "/webinterface/function/", "<include", 65, false),
    at("CVE-2024-55591 (FortiOS)", None, "/ws/cli/open", "", 55, false),
    at("CVE-2024-53704 (SonicWall)", None, "/cgi-bin/sslvpnclient", "", 50, false),
    at("CVE-2021-20038 (SonicWall)", None, "/cgi-bin/jarrewrite.sh", "", 60, false),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::AccessRecord;
    use crate::timestamp::Timestamp;

    fn judged(method: &str, path_and_query: &str) -> bool {
        let mut target = Target::default();
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        target.read(&AccessRecord { path_and_query: path_and_query.as_bytes(), ..blank }, false);
        let mut found = Findings::default();
        for entry in all() {
            if let Some(at) = memmem::find(target.lower(), entry.path.as_bytes()) {
                let span = at..at + entry.path.len();
                entry.judge(&target, method.as_bytes(), span, &mut Seen::default(), &mut found);
            }
        }
        found.iter().next().is_some()
    }

    #[test]
    fn method_and_second_word_are_needed() {
        assert!(judged("POST", "/pages/doenterpagevariables.action"));
        assert!(!judged("GET", "/pages/doenterpagevariables.action"));
        assert!(judged("GET", "/public/plugins/text/..%2f..%2fetc"));
        assert!(!judged("GET", "/public/plugins/text/img/logo.svg"));
    }

    #[test]
    fn entries_are_written_as_they_are_searched() {
        for entry in all() {
            assert_eq!(entry.path, entry.path.to_ascii_lowercase());
            assert_eq!(entry.also, entry.also.to_ascii_lowercase());
            assert!(entry.path.len() > 3 || !entry.also.is_empty(), "{}", entry.reference);
        }
    }
}
