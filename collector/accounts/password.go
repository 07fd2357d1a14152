package accounts

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Mosquitto's form of a password is $7$ROUNDS$SALT$HASH, PBKDF2 with SHA-512, in base64. Mosquitto 2.0 takes no other length
// of salt and hash.
const (
	hashRounds  = 101 // as Mosquitto's own tool: nothing can be guessed of 128 random bits, however fast each guess is
	maxRounds   = 100000
	saltBytes   = 12
	hashBytes   = 64
	hashVersion = "7"
)

// newPassword makes a password of at least 128 random bits, without letters that a shell or a URL takes for something else.
func newPassword() string { return rand.Text() }

// hashPassword is a password as it is kept.
func hashPassword(password string) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	key, err := pbkdf2.Key(sha512.New, password, salt, hashRounds, hashBytes)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("$%s$%d$%s$%s", hashVersion, hashRounds, text(salt), text(key)), nil
}

// fits tells whether a password is the one of a hash.
func fits(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 5 || parts[0] != "" || parts[1] != hashVersion {
		return false
	}
	rounds, err := strconv.Atoi(parts[2])
	if err != nil || rounds < 1 || rounds > maxRounds {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(want) != hashBytes {
		return false
	}
	key, err := pbkdf2.Key(sha512.New, password, salt, rounds, hashBytes)
	return err == nil && subtle.ConstantTimeCompare(key, want) == 1
}
