package report

import "github.com/galley-engine/galley/cmd/galley/internal/client"

// Keys writes a list of API keys.
func (r *Report) Keys(keys []client.Key) {
	if len(keys) == 0 {
		r.Line("there are no API keys")
		return
	}
	rows := make([][]string, len(keys))
	for i, k := range keys {
		rows[i] = []string{k.KeyID, k.Name, moment(&k.CreatedAt), moment(k.RevokedAt)}
	}
	table(r.w, []column{{title: "key"}, {title: "name"}, {title: "created (UTC)", style: quiet}, {title: "revoked (UTC)"}}, rows)
}

// NewKey writes a key that was just made.
func (r *Report) NewKey(key client.NewKey) {
	r.Facts([2]string{"key", printable(key.KeyID)}, [2]string{"API key", printable(key.Secret)})
	r.Line("keep it now: it is not shown again")
}
