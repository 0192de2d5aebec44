package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// SignatureHeader carries "sha256=" and the HMAC-SHA256 of the body under the
// endpoint's secret, in hex: GitHub's form, for which receivers have code.
const SignatureHeader = "X-Registryd-Signature-256"

// sign returns the header's value.
func sign(secret string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}
