package servers

import (
	_ "embed" // the script
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed openapi/validate.mjs
var validateOpenAPI []byte

// ValidateOpenAPI fails a test unless two independent validators find an OpenAPI 3.1 document sound.
func ValidateOpenAPI(tb testing.TB, document []byte) {
	tb.Helper()
	modules := filepath.Join(CacheDir(), "openapi", "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "@seriousme", "openapi-schema-validator", "package.json")); err != nil {
		tb.Fatalf("validators of OpenAPI (npm) in %s: %v", modules, ErrMissing)
	}
	node, err := find("node")
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	err = errors.Join(
		os.Symlink(modules, filepath.Join(dir, "node_modules")), // node looks for packages beside the file
		os.WriteFile(filepath.Join(dir, "validate.mjs"), validateOpenAPI, 0o600),
		os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600),
	)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), node, "validate.mjs", "openapi.json")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatal(fmt.Errorf("the document is not valid: %w\n%s", err, out))
	}
}
