package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// credStore is where systemd finds the credentials of the units. Commands that root calls read there themselves.
const credStore = "/etc/credstore"

// Secret is what the environment sets under one name, or else what the service manager passed in under another (LoadCredential=
// in the unit), and which of the two names it came by. It is empty where neither is.
func Secret(variable, credential string) (name, value string, err error) {
	if v := os.Getenv(variable); v != "" {
		return variable, v, nil
	}
	dir, given := os.LookupEnv("CREDENTIALS_DIRECTORY")
	if !given {
		dir = credStore
	}
	text, err := os.ReadFile(filepath.Join(dir, credential))
	if errors.Is(err, fs.ErrNotExist) || !given && errors.Is(err, fs.ErrPermission) {
		return variable, "", nil
	}
	if err != nil {
		return credential, "", fmt.Errorf("read the credential %s: %w", credential, err)
	}
	return credential, strings.TrimRight(string(text), "\r\n"), nil
}
