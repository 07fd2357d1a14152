package support

import (
	"math"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Secrets are what must not get out: texts that are known to be secret, the place of the antenna, and whatever looks like a
// password.
type Secrets struct {
	anywhere []string         // replaced wherever they are
	words    []*regexp.Regexp // replaced as whole words: they may be parts of innocent ones
	degrees  []float64
}

const hidden = "***"

// ordinary is a text that is no more than a word: replacing it inside others would make the text unreadable.
var ordinary = regexp.MustCompile(`^([a-z]*|.{0,5})$`)

// Add makes a text one to hide.
func (s *Secrets) Add(text string) {
	text = strings.TrimSpace(text)
	if len(text) < 3 || strings.Trim(text, "*") == "" {
		return
	}
	quoted := strconv.Quote(text)
	for _, form := range []string{text, url.QueryEscape(text), url.PathEscape(text), quoted[1 : len(quoted)-1]} {
		if ordinary.MatchString(form) {
			s.words = append(s.words, regexp.MustCompile(`(^|[^\w./-])`+regexp.QuoteMeta(form)+`($|[^\w/-])`))
			continue
		}
		s.anywhere = append(s.anywhere, form)
	}
}

// AddURL hides what of an address is secret: the password of its account, and those among its parameters.
func (s *Secrets) AddURL(address string) {
	rest, whole := after(address, "://")
	if !whole && !strings.Contains(address, "?") { // somebody left the scheme out
		rest, whole = address, true
	}
	if at := strings.LastIndexByte(rest, '@'); whole && at >= 0 && !strings.HasPrefix(address, "file:") {
		_, password, _ := strings.Cut(rest[:at], ":")
		s.addEscaped(password)
	}
	_, query, _ := strings.Cut(address, "?")
	for _, pair := range strings.Split(query, "&") {
		if name, value, _ := strings.Cut(pair, "="); secretName.MatchString(name) {
			s.addEscaped(value)
			s.addFile(value)
		}
	}
	s.addCommand(address)
}

func (s *Secrets) addEscaped(text string) {
	s.Add(text)
	if plain, err := url.PathUnescape(text); err == nil && plain != text {
		s.Add(plain)
	}
}

func after(text, mark string) (string, bool) {
	_, rest, ok := strings.Cut(text, mark)
	return rest, ok
}

// addCommand hides the arguments of a source exec:COMMAND, any of which may be a password, but not the names of its options.
func (s *Secrets) addCommand(source string) {
	command, ok := after(source, "exec:")
	if !ok {
		return
	}
	if at := strings.LastIndexByte(command, '?'); at >= 0 && strings.Contains(command[at:], "=") {
		command = command[:at] // what follows are settings of ours
	}
	words := strings.Fields(command)
	for _, word := range words[min(1, len(words)):] {
		option, value, assigned := strings.Cut(strings.Trim(word, `"'\`), "=")
		switch {
		case assigned:
			s.addEscaped(value)
		case !strings.HasPrefix(option, "-"):
			s.addEscaped(option)
		}
	}
}

// mostSecretBytes is more than a file with a password has.
const mostSecretBytes = 4096

// addFile hides what is in the file that file:PATH names.
func (s *Secrets) addFile(value string) {
	path, ok := strings.CutPrefix(value, "file:")
	if !ok {
		return
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > mostSecretBytes {
		return
	}
	if text, err := os.ReadFile(path); err == nil && utf8.Valid(text) {
		s.Add(string(text))
	}
}

// secretName tells names of passwords, however they are misspelt.
var secretName = regexp.MustCompile(`(?i)pas|pw|word|secret|token|credential|(api|access|private)_?key`)

// AddEnvironment hides the values of a program's variables that are secrets.
func (s *Secrets) AddEnvironment(environment []string) {
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, "HEIMDALL_"):
		case secretName.MatchString(name):
			s.Add(value)
			s.addFile(value)
		case strings.HasSuffix(name, "_URL"):
			s.AddURL(value)
		}
	}
}

// setting is a key and its value in YAML, in block style or in braces.
var setting = regexp.MustCompile(`(?m)([a-z_]+)["']?[ \t]*:[ \t]+("(?:[^"\\]|\\.)*"|'[^']*'|[^\n]+)`)

// AddConfig hides what is secret in the text of a configuration, which need not be one that can be read.
func (s *Secrets) AddConfig(text string) {
	for line := range strings.Lines(text) {
		for rest := line; ; {
			m := setting.FindStringSubmatchIndex(rest)
			if m == nil {
				break
			}
			s.addSetting(rest[m[2]:m[3]], rest[m[4]:m[5]])
			rest = rest[m[4]:] // a value that is a mapping has settings of its own
		}
	}
}

func (s *Secrets) addSetting(key, value string) {
	plain := unquoted(value)
	switch {
	case secretName.MatchString(key):
		s.Add(plain)
		s.addFile(plain)
	case key == "lat" || key == "lon":
		if v, err := strconv.ParseFloat(plain, 64); err == nil {
			s.AddPlace(v)
		} else {
			s.Add(plain)
		}
	case key == "url" || key == "source":
		s.AddURL(plain)
	}
}

// unquoted is the value without quotes, and without what follows it on its line.
func unquoted(value string) string {
	if quote := value[:1]; quote == `"` || quote == `'` {
		return strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(value, quote), quote), `\"`, `"`)
	}
	value, _, _ = strings.Cut(value, " #")
	value, _, _ = strings.Cut(value, ", ")
	return strings.TrimRight(strings.TrimSpace(value), "},]")
}

// AddPlace hides a latitude or longitude, and what is near to it, with two decimals or more.
func (s *Secrets) AddPlace(degrees float64) { s.degrees = append(s.degrees, degrees) }

// near is the width of what others may see of a place, 10 km, in degrees of latitude.
const near = 0.09

// looks are what is hidden for how it looks, and what of it stays.
var looks = []struct {
	pattern *regexp.Regexp
	shown   string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), hidden},
	{regexp.MustCompile(`\bhd1\.[\w.~+/=-]+`), "hd1." + hidden},
	{regexp.MustCompile(`\bhdt_\w+`), "hdt_" + hidden},
	{regexp.MustCompile(`(?i)\b(bearer|basic) +[\w.~+/=-]{6,}`), "$1 " + hidden},
	{regexp.MustCompile(`(?i)([\w.-]*(?:pass|pwd|password|secret|token|credential|(?:api|access|private)_?key)[\w.-]*["']?=["']?)[^\s&,;"'}\]]+`), "${1}" + hidden},
	{regexp.MustCompile(`(?i)("[\w.-]*(?:pass|pwd|secret|token|credential|(?:api|access|private)_?key)[\w.-]*" *: *")[^"]+"`), `${1}` + hidden + `"`},
	{regexp.MustCompile(`(?i)(--?(?:password|passwd|secret|token|api-?key) +)\S+`), "${1}" + hidden},
	{regexp.MustCompile(`(?i)(\b(?:lat|lon|lng|latitude|longitude|latitude_deg|longitude_deg|locator|grid)["']? ?[=:] ?["']?)[-+\w]*\d[\w.]*`), "${1}" + hidden},
}

// account is what stands before the host of an address, and may be a password. Times in the parameters of a file have an @, too.
var account = regexp.MustCompile(`([A-Za-z][\w+.-]*)://[^\s"'<>]*@`)

func withoutAccount(address string) string {
	scheme, _, _ := strings.Cut(address, "://")
	if scheme == "file" {
		return address
	}
	return scheme + "://" + hidden + "@"
}

var decimal = regexp.MustCompile(`-?\d{1,3}\.\d{2,}`)

// Hide gives the text without what is secret in it.
func (s *Secrets) Hide(text string) string {
	for _, secret := range s.anywhere {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	for _, word := range s.words {
		text = word.ReplaceAllString(word.ReplaceAllString(text, "${1}"+hidden+"${2}"), "${1}"+hidden+"${2}") // twice: neighbours share what is between them
	}
	for _, look := range looks {
		text = look.pattern.ReplaceAllString(text, look.shown)
	}
	text = account.ReplaceAllStringFunc(text, withoutAccount)
	return decimal.ReplaceAllStringFunc(text, func(number string) string {
		v, err := strconv.ParseFloat(number, 64)
		for _, d := range s.degrees {
			if err == nil && math.Abs(math.Abs(v)-math.Abs(d)) < near {
				return hidden
			}
		}
		return number
	})
}
