"""Sentences for the encoder: by some its scales are found, by others it is judged."""

__all__ = ["CALIBRATION", "JUDGED"]

#: Sentences whose activations tell the scales of tensors.
CALIBRATION = (
    "The bakery on the corner opens at six and sells out of rye bread before eight.",
    "Heavy rain closed two mountain roads on Tuesday night.",
    "How do I reset the password of my email account?",
    "She tuned the old violin by ear and began to play.",
    "Central banks raised interest rates again to slow inflation.",
    "A compiler turns source code into instructions that a processor can execute.",
    "The patient was given antibiotics and sent home after three days.",
    "Whales sing to each other across hundreds of kilometres of ocean.",
    "Is it cheaper to fly to Lisbon or to take the night train?",
    "Whisk the eggs with sugar until the mixture is pale and thick.",
    "He scored twice in the last ten minutes and the crowd went wild.",
    "The museum has lent its only Vermeer to a gallery in Tokyo.",
    "Photosynthesis stores the energy of sunlight in sugar.",
    "Two men are carrying a sofa up a narrow staircase.",
    "Please send the signed contract back by Friday, 5 pm.",
    "My grandmother kept bees, hens and a very bad-tempered goat.",
    "Quantum error correction needs many physical qubits for one logical qubit.",
    "The committee rejected the proposal by 12 votes to 7.",
    "Nobody answered the door, so the courier left a note.",
    "In 1969 people walked on the Moon for the first time.",
    "Gradient descent follows the slope of the loss downhill.",
    "The children built a castle of sand and the tide took it.",
    "Are there any vegetarian restaurants near the railway station?",
    "The judge adjourned the trial until the witness could be found.",
    "Volcanic ash grounded flights over northern Europe for a week.",
    "I would not buy these headphones again; the left one broke in a month.",
    "A small dog runs after a red ball in the park.",
    "The novel follows three generations of a family of fishermen.",
    "Solar panels on the roof cover half of the school's electricity.",
    "Turn left after the bridge and park behind the church.",
    "Wolves returned to the valley after an absence of eighty years.",
    "The startup cut a third of its staff and moved to a smaller office.",
)

#: Sentences by which the encoder is judged; none of them is among the others.
JUDGED = (
    "A man is playing a guitar on the street.",
    "Someone performs music outside for the people who pass by.",
    "The stock market fell sharply after the announcement.",
    "Matrix multiplication dominates the cost of neural networks.",
    "What time does the last bus to the airport leave?",
    "Bake the bread for forty minutes until its crust is brown.",
    "The spacecraft sent back its first pictures of the icy moon.",
    "Doctors recommend that adults sleep at least seven hours a night.",
    "The cat has been asleep on the warm keyboard all morning.",
    "Farmers fear that a third dry summer will ruin the olive harvest.",
    "Where can I renew my passport without an appointment?",
    "The goalkeeper saved the penalty and kept her team in the cup.",
    "An unsigned painting in the attic turned out to be worth millions.",
    "This kettle boils quickly, but its handle gets far too hot.",
    "The new law obliges landlords to insulate their houses.",
    "Bacteria swap genes, and so resistance spreads from one kind to another.",
)
