package identity

// giveTo has nothing to do: files belong to whoever may write to the folder.
func giveTo(string, string) error { return nil }
