package configs

import (
	"fmt"
	"os"
	"strings"
)

// Secret is a password or token: written out, or as file:PATH naming a file that holds it. It prints as stars.
type Secret string

// UnmarshalText takes the secret, reading it from its file where one is named.
func (s *Secret) UnmarshalText(text []byte) error {
	path, isFile := strings.CutPrefix(string(text), "file:")
	if !isFile {
		*s = Secret(text)
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" {
		return fmt.Errorf("%s is empty: write the secret into it", path)
	}
	*s = Secret(secret)
	return nil
}

// String hides the secret, so that it cannot get into a log by accident.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}
