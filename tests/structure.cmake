# The order of the rooms and other rules of the house.
set(structure ${CMAKE_CURRENT_SOURCE_DIR}/structure)
add_test(NAME structure.includes COMMAND sh ${structure}/check_structure.sh ${PROJECT_SOURCE_DIR})
add_test(NAME structure.includes.self COMMAND sh ${structure}/test_check_structure.sh ${structure}/check_structure.sh)
add_test(NAME structure.headers COMMAND sh ${structure}/check_headers.sh ${PROJECT_SOURCE_DIR} ${CMAKE_C_COMPILER} ${CMAKE_CXX_COMPILER})
set_tests_properties(structure.includes structure.includes.self structure.headers PROPERTIES LABELS structure TIMEOUT 300)
