"""The public functions in calls of the array-API standard alone, for arrays of any library on any device."""
