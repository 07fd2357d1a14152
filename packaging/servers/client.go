package servers

import (
	"fmt"
	"os"
	"path/filepath"
)

// ClientPackages is the node_modules folder with what makes and checks a client of the REST API: openapi-typescript, the
// TypeScript compiler, openapi-fetch, and a checker of JSON Schemas.
func ClientPackages() (string, error) {
	dir := filepath.Join(CacheDir(), "client", "node_modules")
	for _, name := range []string{"openapi-typescript", "openapi-fetch", "typescript", "ajv"} {
		if _, err := os.Stat(filepath.Join(dir, name, "package.json")); err != nil {
			return "", fmt.Errorf("npm package %s in %s: %w", name, dir, ErrMissing)
		}
	}
	return dir, nil
}
