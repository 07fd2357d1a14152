package packaging_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const troubleshooting = "TROUBLESHOOTING.md"

var (
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	inner      = regexp.MustCompile(`\]\(#([^)]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInNames = regexp.MustCompile(`[^a-z0-9 _-]`)
	verb       = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
)

// said is every text that the programs may print: the constant strings of their sources.
func said(t *testing.T) (texts []string) {
	t.Helper()
	for _, dir := range []string{"../agent", "../collector", "../configs", "service", "../protocol"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if text := constant(n); text != "" {
					texts = append(texts, text)
					return false
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// constant is the text of an expression of strings that are joined by +, with a place where something else is.
func constant(n ast.Node) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			text, _ := strconv.Unquote(n.Value)
			return verb.ReplaceAllString(text, "…")
		}
	case *ast.BinaryExpr:
		left, right := constant(n.X), constant(n.Y)
		if n.Op == token.ADD && (left != "" || right != "") {
			return left + right
		}
	}
	return ""
}

// TestTroubleshooting_QuotesThePrograms looks for each quotation of the first columns among what the programs print.
func TestTroubleshooting_QuotesThePrograms(t *testing.T) {
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	texts := said(t)
	quotations := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(line, "Heimdall") {
			continue
		}
		for _, span := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
			quotations++
			// What stands for a name or a number may be anything; what is before and after it is printed together.
			parts := slices.DeleteFunc(strings.Split(span[1], "…"), func(part string) bool { return len(strings.TrimSpace(part)) < 2 })
			if !slices.ContainsFunc(texts, func(text string) bool { return inOrder(text, parts) }) {
				t.Errorf("no program says %q", span[1])
			}
		}
	}
	if quotations < 40 {
		t.Errorf("%d quotations", quotations)
	}
}

// inOrder tells whether all parts are in a text, one behind the other.
func inOrder(text string, parts []string) bool {
	for _, part := range parts {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return len(parts) > 0
}

// TestTroubleshooting_HangsTogether follows the links inside the page, and wants a way on from each alert.
func TestTroubleshooting_HangsTogether(t *testing.T) {
	text, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	anchors := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		name := strings.ReplaceAll(notInNames.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		for i := 1; anchors[name]; i++ { // as GitHub tells the second from the first
			name = strings.TrimSuffix(name, "-"+strconv.Itoa(i-1)) + "-" + strconv.Itoa(i)
		}
		anchors[name] = true
	}
	for _, m := range inner.FindAllStringSubmatch(page, -1) {
		if !anchors[m[1]] {
			t.Errorf("#%s is nowhere on the page", m[1])
		}
	}
	rules, err := os.ReadFile("prometheus/heimdall.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	for _, alert := range alerts {
		if !strings.Contains(page, "`"+alert[1]+"`") {
			t.Errorf("the page has no way on from the alert %s", alert[1])
		}
	}
	if len(alerts) < 8 {
		t.Errorf("%d alerts", len(alerts))
	}
}
