"""One file per corpus of emotion EEG that comes as files of its own."""
