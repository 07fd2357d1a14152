package servers

import (
	"fmt"
	"os"
	"path/filepath"
)

// NodeRED is the folder with the program node-red.
func NodeRED() (string, error) {
	dir := filepath.Join(CacheDir(), "nodered", "node_modules", ".bin")
	if _, err := os.Stat(filepath.Join(dir, "node-red")); err != nil {
		return "", fmt.Errorf("npm package node-red in %s: %w", dir, ErrMissing)
	}
	return dir, nil
}
