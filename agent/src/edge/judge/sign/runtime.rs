//! Words of languages and their runtimes: Java, PHP, JavaScript, Python, Ruby, Perl, template engines, serialized
//! objects, shells.

use super::Edge::{Assign, Begin, Call, Code, Meant, None, Start, Typed, Word};
use super::{Group, Places, evidence};
use crate::request::AttackClass::{CodeInjection, Deserialization, JavaInjection, Shellshock, Ssti};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(JavaInjection, 70, "names a class of the Java runtime as code does", Places::ANY, Code, &[
        "java.lang.", "java/lang/", "java.io.", "java.util.", "java.net.", "javax.script", "javax.management", "javax.naming", "javax.el.", "javax.imageio", "javax.servlet",
        "javax.xml", "java.runtime",
        "processbuilder", "scriptenginemanager", "org.apache.commons", "com.sun.", "sun.misc", "springframework.",
        "freemarker.template", "org.apache.struts", "com.opensymphony", "java.sql.", "jdk.", "bsh.", "org.codehaus",
    ]),
    evidence(JavaInjection, 70, "reaches for the Java runtime", Places::ANY, None, &[
        "getruntime(", "@java.", "ognl.", "_memberaccess", ".getclass(", ".class.forname", "allowstaticmethodaccess", "denymethodexecution", "#context[", "#application[",
        "#parameters.", "xwork.", "servletactioncontext", "classloader.", "class.module",
        "class.classloader", "getclass()", "forname(", "newinstance(", "invokertransformer", "instantiatetransformer",
        "clonetransformer", "instantiatefactory", "prototypeclonefactory", "prototypeserializationfactory",
        "whileclosure", "forclosure", "chainedtransformer", "closuretransformer", "jdbcrowset", "templatesimpl",
        "badattributevalue", "urlclassloader", "facescontext.", "pagecontext.", "#request.", "#session.",
        "system.setproperty(", "system.getenv(", "system.getproperty(", "new socket(", "new serversocket(",
        "new filereader(", "\"\".class", "''.class", ".class.get", "['class']", "[\"class\"]", "].execute()",
    ]),
    evidence(JavaInjection, 60, "builds a class in a scripting language of the JVM", Places::QUERY, None, &[
        "@grab(", "@grabresolver", "@grabconfig", "@asttest", "groovy.", "\".execute()", "'.execute()",
        "public class ", "new groovy",
    ]),
    evidence(CodeInjection, 60, "puts a word together that runs code", Places::QUERY, None, &["\"ex\"&\"e\"&", "\"ev\"&\"al"]),
    evidence(JavaInjection, 90, "has a logger look up a name in a directory of the attacker's", Places::ANY, None, &[
        "jndi:ldap", "jndi:rmi", "jndi:dns", "jndi:iiop", "jndi:http", "jndi:corba", "jndi:nis",
    ]),
    evidence(CodeInjection, 75, "contains PHP code", Places::ANY, None, &[
        "<?php", "$_=[]", "$_=@", "<?=", "<? ", "<?\n", "<?\t", "<?\r", "[php]", "[/php]", "{php}", "{/php}", "<?xml:", "<?xml :",
        "<? php", "<?xml  ", "<cfexecute", "<cfset", "<cfquery", "<cfinclude", "<cfoutput", "<cffile", "<%@", "<jsp:",
    ]),
    evidence(CodeInjection, 65, "sets a directive of PHP", Places::TARGET, Assign, &[
        "auto_prepend_file", "auto_append_file", "allow_url_include", "allow_url_fopen", "disable_functions",
        "open_basedir", "safe_mode", "extension_dir", "suhosin.simulation", "cgi.force_redirect",
        "cgi.redirect_status_env", "memory_limit", "error_log", "display_errors", "mail.add_x_header",
        "magic_quotes_gpc", "register_globals", "session.save_path", "session.auto_start",
        "unserialize_callback_func", "include_path", "max_execution_time", "post_max_size", "upload_max_filesize",
        "output_buffering", "output_handler", "assert.callback", "enable_dl", "user_ini.filename", "upload_tmp_dir",
        "expose_php", "html_errors", "log_errors", "soap.wsdl_cache_dir", "zend.multibyte", "browscap", "doc_root",
        "user_dir", "short_open_tag", "track_errors", "arg_separator.output", "date.timezone", "default_charset",
        "file_uploads", "implicit_flush", "variables_order", "sys_temp_dir", "session.upload_progress", "opcache.file_cache",
        "opcache.preload",
    ]),
    evidence(CodeInjection, 60, "calls a function of PHP that runs code or commands", Places::ANY, Call, &[
        "system", "shell_exec", "passthru", "popen", "proc_open", "pcntl_exec", "eval", "assert", "create_function",
        "call_user_func", "call_user_func_array", "base64_decode", "gzinflate", "gzuncompress", "str_rot13",
        "phpinfo", "file_get_contents", "file_put_contents", "fopen", "fwrite", "fputs", "fputcsv", "fsockopen",
        "pfsockopen", "readfile", "highlight_file", "show_source", "preg_replace", "array_map", "array_filter",
        "usort", "unserialize", "print_r", "var_dump", "die", "get_defined_vars", "move_uploaded_file", "chr", "zerodiumsystem", "zerodiumvar_dump", "zerodiumexec",
        "getallheaders", "ini_get_all", "phpcredits", "get_loaded_extensions", "sys_getloadavg", "getcwd",
        "get_included_files", "get_cfg_var", "php_ini_loaded_file", "apache_get_modules", "apache_setenv",
        "disk_free_space", "gethostbyname", "php_strip_whitespace", "set_include_path",
        "hex2bin", "bin2hex", "exec", "ini_set", "ini_get", "php_uname", "phpversion", "getenv", "putenv",
        "posix_getpwuid", "scandir", "opendir", "simplexml_load_file", "parse_ini_file", "func_get_args",
        "register_shutdown_function", "register_tick_function", "ob_start", "forward_static_call",
        "reflectionfunction", "extract", "parse_str", "mb_ereg_replace", "curl_exec", "curl_init", "gzopen",
        "readgzfile", "gzfile", "escapeshellcmd", "escapeshellarg", "zend_version", "pg_query", "mysqli_query",
        "sqlite_query", "md5_file", "sha1_file", "hash_file", "tempnam", "tmpfile", "symlink", "is_callable",
        "function_exists", "get_current_user", "unpack", "token_get_all", "substr", "ftp_connect", "ftp_get",
        "imap_open", "mail", "error_log", "debug_backtrace", "convert_uuencode", "array_walk", "iterator_apply",
    ]),
    evidence(CodeInjection, 55, "reads a superglobal of PHP", Places::ANY, Meant, &[
        "$_get", "$_post", "$_request", "$_server", "$_cookie", "$_files", "$_env", "$_session", "$globals",
        "$http_raw_post_data", "$__[_]", "$argv[",
    ]),
    evidence(CodeInjection, 60, "opens a stream wrapper of PHP", Places::ANY, None, &[
        "php:filter", "php:/filter", "php://", "phar://", "expect://", "zip://", "compress.zlib://", "compress.bzip2://", "data://", "glob://",
        "ogg://", "zlib://", "rar://", "data:text/plain", "data:application/x-php", "data:application/x-httpd-php", "data:;base64",
    ]),
    evidence(CodeInjection, 60, "runs PEAR's command-line tool", Places::TARGET, None, &[
        "pearcmd", "config-create",
    ]),
    evidence(CodeInjection, 60, "reaches for the runtime of a scripting language", Places::ANY, None, &[
        "process.mainmodule", "process.binding", "process[", "global.process", "process.exit(", "process.kill(",
        "globalthis.", "require(", "__proto__", "{\"prototype\"", "constructor.prototype", "constructor[prototype]",
        "constructor.constructor", "[prototype]", "this.constructor", "new function(", "execsync(", "spawnsync(",
        "_$$nd_func$$_", "fs.readfile", "fs.writefile", "console[", "module.exports",
        "string.fromcharcode(", "string.fromcharcode.", "import(", "(function(){", "})()", "reflect.get", "__import__(", "__import__'", "__import__\"", "__class__", "__subclasses__", "__globals__", "__builtins__", "__mro__", "pty.spawn", "eval(compile", "exec(compile",
        "kernel.system", "kernel.exec", "kernel.open",
        "kernel.fork", "kernel.spawn", "process.spawn(", "process.fork(", "io.popen", "io.read",
        "open3.", "%x(", "%x{", "%x[", "send(:", "instance_eval", "class_eval", "file.read(", "yaml.load", "marshal.load", "activerecord::",
        "erb.new", "psych.", "os.execute", "dofile(", "loadstring(", "package.loadlib", "@{[", "qx{", "qx(",
        "system qq", "use socket;", "exec qq", "core::", "io::socket", "perl -e",
    ]),
    evidence(CodeInjection, 60, "uses the runtime of a scripting language as code does", Places::ANY, Code, &[
        "child_process", "process.env", "os.system", "os.popen", "subprocess.", "importlib", "socket.socket", "timeit(",
        "os.spawn", "os.exec", "builtins.", "util.inspect", "vm.runin", "http.createserver", "fs.promises", "deno.run",
        "bun.spawn", "buffer.from", "new buffer", "runtime.exec", "shell_exec", "module.require", "ctypes.", "pickle.loads", "marshal.loads",
        "dir.entries", "dir.glob", "file.readlines", "io.readlines", "fileutils.", "process.clock",
        "system.diagnostics.", "system.reflection.", "system.io.file", "activator.createinstance",
        "system.management.automation", "system.net.webclient", "wscript.shell", "scripting.filesystemobject",
    ]),
    evidence(CodeInjection, 60, "has a parser build objects of its runtime", Places::ANY, None, &[
        "!ruby/object", "!ruby/hash", "!!python/", "!!javax.", "!!java.", "!!com.", "!!org.", "!php/object",
        "2002:python/",
    ]),
    evidence(CodeInjection, 55, "includes a file by code", Places::QUERY, Start, &[
        "include('", "include(\"", "include 'http", "include \"http", "require('", "require(\"", "require_once(",
        "include_once(", "print(md5", "echo(md5", "die(md5", "exit(md5", "echo md5(", "print md5(", "print(`", "echo `",
        "echo(sha1", "exit(print", "die(print", "var_dump(md5", "echo exec(", "echo system(", "exit();", "die();",
    ]),
    evidence(CodeInjection, 60, "reaches for the runtime of a scripting language", Places::ANY, Typed, &[
        "console.info", "console.log(", "console.error(", "console.debug(", "console.warn(", "console.trace(",
        "console.table(", "response.write", ",eval)",
    ]),
    evidence(Ssti, 65, "calls into a template engine", Places::TARGET, Typed, &["<%="]),
    evidence(CodeInjection, 50, "loops without end", Places::QUERY, Typed, &[
        "while(", "for(;;", "while( ",
    ]),
    evidence(Deserialization, 70, "carries a serialized object of Java", Places::TARGET, None, &[
        "ro0ab", "aced0005",
    ]),
    evidence(Deserialization, 55, "carries a serialized object of .NET", Places::TARGET, None, &[
        "aaeaaad/////", "objectdataprovider", "losformatter", "typeconfusedelegate",
    ]),
    evidence(Deserialization, 55, "carries a serialized object of Python or Ruby", Places::QUERY, Begin, &[
        "bahvo", "gasv", "gaml", "gajv", "gajj", "gajd", "cos\nsystem", "cos\\nsystem", "cposix", "c__builtin__", "cbuiltins", "csubprocess", "ccopy_reg", "cnt\nsystem", "(dp0", "(lp0", "(dp1",
    ]),
    evidence(Shellshock, 90, "defines a function as bash imports it from the environment", Places::ANY, Start, &[
        "() {", "(){", "() _{", "() :{",
    ]),
    evidence(Ssti, 65, "calls into a template engine", Places::TARGET, None, &[
        "{{groovy}}", "{{python}}", "{{async", "{{velocity", "#set($", "#set ($", "#include(", "#parse(", "#foreach(",
        "#evaluate(", "freemarker.template.utility", "?new()", "{{constructor", "{{$on", "{{request", "{{config",
        "{{self", "{{''", "{{\"\"", "{{[]", "{{()", "render(", "<#assign", "ng-app", "[[${",
        "{$smarty", "{smarty_", "{{#with", "{{settings", "{{dump(", "{{app.", "{{_context", "{{_self", "{{this.",
        "{{g.", "{{url_for", "{{get_flashed", "{{lipsum", "{{cycler", "{{joiner", "{{namespace", "{%debug", "{% debug",
        "<#include", "<#import", "${class", "$class.", "{@math", "{{#if (", "{{range.", "{{.}}", "{{ . }}", "{{<%", "{{session}}", "{{this}}", "{{@root",
        "<#list", "<#if", "<#function", "<#macro", "<#setting", "${.version", "${.data_model", "${.globals", "$util.",
        "{{define \"", "{{template \"", "{{block \"", "{{call .", "{{html \"", "{{js \"", "{{#each this", "{{#if true",
        "{{lookup this", "{{>", "{{range .", "{{with .", "{{.system", "{{ .system",
        "{{printf", "{system(", "{exec(", "{passthru(", "{if phpinfo", "{{_.", "{{= _.", "{{=_.", "{{root.", "#{root.", "{literal}",
        "template.new(", "render_template", "|attr(", "|filter('", "|map('", "|sort('", "|reduce('",
    ]),
    evidence(JavaInjection, 60, "reads an object that pages of Java have at hand", Places::TARGET, None, &[
        "${pagecontext", "${requestscope", "${sessionscope", "${applicationscope", "${initparam", "${header.", "${header}",
        "${headervalues", "${cookie.", "${cookie}", "${paramvalues", "${param.", "#{facescontext", "#{request",
        "#{session", "#{application", "${const:", "ysoserial",
    ]),
    evidence(Deserialization, 65, "names the class that a parser shall build", Places::TARGET, None, &[
        "\"@type\":\"org.", "\"@type\":\"com.", "\"@type\":\"java", "\"@type\":\"ch.", "\"@type\":\"l", "\"@type\": \"com.",
        "\"@type\": \"org.", "\"@type\": \"java", "<dynamic-proxy", "<java.util.", "<object class=\"java", "<java version",
        "<java><", "\"$type\":\"system.", "\"$type\": \"system.",
    ]),
    evidence(CodeInjection, 55, "has a spreadsheet run a program or fetch a page", Places::QUERY, None, &[
        "=cmd|", "+cmd|", "-cmd|", "@cmd|", "*cmd|", "cmd|'", "=hyperlink(", "=importxml(", "=webservice(", "=importdata(",
        "=dde(", "=importhtml(", "=importfeed(",
    ]),
    evidence(JavaInjection, 60, "sets a property of the class loader", Places::TARGET, Word, &[
        "class.module.classloader.resources", "class.classloader.resources",
    ]),
    evidence(CodeInjection, 55, "asks for PHP's own description", Places::QUERY, Word, &[
        "phpinfo", "phpinfo1",
    ]),
];
