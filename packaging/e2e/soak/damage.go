package soak

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
)

const pageBytes = 4096

// damage does something to the spool of an agent that is down, and notes which of its records it left whole. It leaves alone
// one that an agent has not yet replaced since the last time.
func damage(r *rand.Rand, state string) (d invariant.Damage, hurt bool, err error) {
	kind := []string{"bit", "page", "truncated"}[r.IntN(3)]
	where := r.Float64()
	path := filepath.Join(state, "spool.db")
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	held, err := invariant.LoadSpool(state)
	if err != nil {
		return d, false, nil //nolint:nilerr // it is damaged
	}
	after := bytes.Clone(before)
	at := int(where * float64(len(after)))
	switch kind {
	case "bit":
		after[at] ^= 1 << r.IntN(8)
	case "page":
		page := at / pageBytes * pageBytes
		clear(after[page:min(page+pageBytes, len(after))])
	case "truncated":
		after = after[:at]
	}
	if err := os.WriteFile(path, after, 0o600); err != nil {
		return d, false, err
	}
	d.Kind = kind
	for _, h := range held {
		d.Held = append(d.Held, h.Payload)
		if bytes.Contains(after, h.Payload) {
			d.Intact = append(d.Intact, h.Payload)
		}
	}
	return d, true, nil
}

// copyState copies a state directory of an agent that is down, but for what belongs to a running one.
func copyState(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rest)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, text, 0o600); err != nil {
			return fmt.Errorf("copy %s: %w", rest, err)
		}
		return nil
	})
}
