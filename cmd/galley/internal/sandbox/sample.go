package sandbox

func trades() []trade {
	return []trade{
		{"dentist", "dentists", []string{"Dental", "Family Dentistry", "Dental Studio"}},
		{"plumber", "plumbers", []string{"Plumbing", "Plumbing & Heating", "Pipe Works"}},
		{"electrician", "electricians", []string{"Electric", "Electrical Services", "Power & Light"}},
		{"bakery", "bakeries", []string{"Bakery", "Bread Company", "Patisserie"}},
		{"florist", "florists", []string{"Flowers", "Florist", "Garden & Bloom"}},
		{"lawyer", "lawyers", []string{"Law Office", "Legal", "& Partners"}},
		{"veterinarian", "veterinarians", []string{"Animal Clinic", "Veterinary Care", "Pet Hospital"}},
		{"mechanic", "mechanics", []string{"Auto Repair", "Garage", "Motor Works"}},
	}
}

func cities() []city {
	return []city{
		{"Los Angeles", "California", "213"},
		{"San Francisco", "California", "415"},
		{"San Diego", "California", "619"},
		{"Sacramento", "California", "916"},
		{"Austin", "Texas", "512"},
		{"Houston", "Texas", "713"},
		{"Dallas", "Texas", "214"},
		{"Albany", "New York", "518"},
		{"Buffalo", "New York", "716"},
		{"Seattle", "Washington", "206"},
		{"Spokane", "Washington", "509"},
		{"Portland", "Oregon", "503"},
		{"Chicago", "Illinois", "312"},
		{"Miami", "Florida", "305"},
		{"Orlando", "Florida", "407"},
		{"Boston", "Massachusetts", "617"},
	}
}

func surnames() []string {
	return []string{
		"Alvarez", "Bergström", "Chen", "Delgado", "Ellis", "Fontaine", "Garcia", "Hoffmann", "Ibrahim", "Jansen", "Kowalski", "Lindqvist",
		"Moreau", "Nakamura", "O'Brien", "Park", "Quinn", "Rossi", "Sato", "Thompson", "Ueda", "Vargas", "Whitfield", "Yilmaz",
	}
}
